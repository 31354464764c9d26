"""A Redis with one database, as many hosts give: prefixes stand in for the numbers."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from app import worker
from app.container import Container
from app.embedded import Valkey
from app.messaging.broker import Outgoing
from app.queues import Queue
from app.runtime.loops import running as looping
from app.services.users import USER
from app.settings import Settings
from harness.dependencies import Dependencies
from harness.embedded import running
from harness.service import Service
from harness.shop import Shop
from harness.waiting import eventually

_PREFIX = "shop:"
# What the scheduler and its worker write: a schedule and a result.
_WRITE = """
import asyncio
from taskiq import TaskiqResult
from app.scheduler import nightly_reports, results, schedules

async def main():
    await schedules.startup()
    await nightly_reports.schedule_by_cron(schedules, "0 0 1 1 *")
    await results.set_result("one", TaskiqResult(is_err=False, return_value=None, execution_time=1))
    await schedules.shutdown()
    await results.shutdown()

asyncio.run(main())
"""


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with running(Valkey(tmp_path / "valkey", config={"databases": "1"})) as server:
        assert isinstance(server, Valkey)
        yield server


@pytest.fixture
def settings(dependencies: Dependencies) -> Settings:
    return dependencies.settings(redis_prefix=_PREFIX)


async def test_all_keys_have_the_prefix(
    container: Container, shop: Shop, valkey: Valkey, tree: Path, tmp_path: Path
) -> None:
    async with (
        Redis(port=valkey.port, decode_responses=True) as redis,
        looping(*container.reading_loops),
        worker.consuming(container),
        Service(
            tree,
            tmp_path,
            {"REDIS_HOST": valkey.host, "REDIS_PORT": str(valkey.port), "REDIS_PREFIX": _PREFIX},
        ) as service,
    ):

        async def is_cached() -> bool:
            await container.caches[USER].read(shop.user_id)
            return bool(await redis.exists(f"{_PREFIX}user:{shop.user_id}"))

        await eventually(is_cached)
        await container.broker.publish(Outgoing(Queue.ORDER, b"poison", "one"))
        await eventually(lambda: redis.exists(f"{_PREFIX}order.dead"))
        async with container.broker.dead_letters(Queue.ORDER) as dead:
            assert [letter.message_id async for letter in dead.letters] == ["one"]
        await service.script("-c", _WRITE)
        keys: Any = await redis.keys()
        assert {f"{_PREFIX}product", f"{_PREFIX}result:one"} <= set(keys)
        assert any(key.startswith(f"{_PREFIX}schedule:") for key in keys)
        assert [key for key in keys if not key.startswith(_PREFIX)] == []


async def test_a_purge_leaves_what_others_have_put_there(
    container: Container, valkey: Valkey
) -> None:
    async with Redis(port=valkey.port) as redis:
        await redis.mset({"user:1": "of another service", f"{_PREFIX}user:1": "stale"})
        await container.caches.ping()
        assert await redis.exists("user:1")
        assert not await redis.exists(f"{_PREFIX}user:1")
