"""The soak itself: a short one finds nothing in a good build, and the fault in a broken one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.tree import copy_tree, edit
from tests.faults.soak.run import soak

pytestmark = pytest.mark.fault
_SEED = 4


@pytest.mark.parametrize("transport", ["streams", pytest.param("rabbitmq", marks=pytest.mark.long)])
async def test_a_short_soak_finds_nothing(transport: str) -> None:
    summary = await soak(transport, 10, _SEED)
    assert not summary.violations, str(summary)
    assert summary.rows["faults"][0] != "0", str(summary)


def _without(file: str, line: str, instead: str) -> Callable[[Path], Path]:
    def make_tree(target: Path) -> Path:
        tree = copy_tree(target)
        edit(tree, file, line, instead)
        return tree

    return make_tree


@pytest.mark.long
async def test_it_finds_an_ignored_inbox() -> None:
    unsettled = "Message.status == MessageStatus.DEAD,\n"
    everything = "Message.status.is_not(None),\n"
    broken = _without("app/repositories/messages.py", unsettled, everything)
    summary = await soak("streams", 10, _SEED, broken)
    assert "exactly once" in "".join(summary.violations), str(summary)


@pytest.mark.long
async def test_it_finds_a_missing_invalidation() -> None:
    deleting = "confirmed &= await self._store.delete(sorted(invalidation.deletions))"
    broken = _without("app/cache/caches.py", deleting, "pass")
    summary = await soak("streams", 10, _SEED, broken)
    assert "responses: " in "".join(summary.violations), str(summary)
