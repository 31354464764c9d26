"""What arrives during a call shares the next one."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar

import pytest

from app.runtime.micro_batcher import MicroBatcher

whose: ContextVar[str] = ContextVar("whose", default="nobody's")


class Work:
    """Doubles numbers when it is told to; odd ones it cannot."""

    def __init__(self) -> None:
        self.calls: list[Sequence[int]] = []
        self.contexts: list[str] = []
        self.open = asyncio.Event()

    async def run(self, numbers: Sequence[int]) -> Sequence[int]:
        self.calls.append(numbers)
        self.contexts.append(whose.get())
        await self.open.wait()
        if any(number % 2 for number in numbers):
            raise ValueError("odd")
        return [number * 2 for number in numbers]


@pytest.fixture(name="work")
async def _work() -> Work:
    return Work()


async def submitted(batches: MicroBatcher[int, int], *numbers: int) -> "list[asyncio.Task[int]]":
    tasks = [asyncio.ensure_future(batches.submit(number)) for number in numbers]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_what_comes_during_a_call_shares_the_next_in_its_order(work: Work) -> None:
    batches = MicroBatcher(work.run, most=3)
    tasks = [*await submitted(batches, 2), *await submitted(batches, 8, 4, 6, 10)]
    work.open.set()
    assert await asyncio.gather(*tasks) == [4, 16, 8, 12, 20]
    assert work.calls == [[2], [8, 4, 6], [10]]


async def test_a_failure_is_told_to_its_batch_and_ends_nothing_else(work: Work) -> None:
    batches = MicroBatcher(work.run, most=2)
    work.open.set()
    tasks = await submitted(batches, 1, 2, 4)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [ValueError, ValueError, int]
    assert await batches.submit(6) == 12


async def test_whoever_leaves_before_the_call_is_left_out(work: Work) -> None:
    batches = MicroBatcher(work.run, most=9)
    first, second, third = [*await submitted(batches, 2), *await submitted(batches, 4, 6)]
    second.cancel()
    with suppress(asyncio.CancelledError):
        await second
    work.open.set()
    assert (await first, await third) == (4, 12)
    assert work.calls == [[2], [6]]


async def test_whoever_leaves_during_the_call_takes_it_from_nobody(work: Work) -> None:
    batches = MicroBatcher(work.run, most=9)
    first, second = await submitted(batches, 2, 4)
    first.cancel()
    work.open.set()
    assert await second == 8


async def test_a_call_is_nobodys_in_the_log(work: Work) -> None:
    work.open.set()
    whose.set("mine")
    await MicroBatcher(work.run, most=9).submit(2)
    assert work.contexts == ["nobody's"]
