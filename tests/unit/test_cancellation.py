"""A future that a library cancels must not look like the cancellation of our own task."""

import asyncio

import pytest

from app.cache.store import RedisDown
from app.database import failures_as_unavailable
from app.errors import Unavailable
from harness.caches import lone_store
from harness.dependencies import redis_address

_NOWHERE = redis_address("redis://127.0.0.1:9/0")


async def _wait_for_a_cancelled_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def test_a_future_cancelled_by_the_database_driver_means_that_the_database_is_away() -> None:
    with pytest.raises(Unavailable), failures_as_unavailable():
        await _wait_for_a_cancelled_future()


async def test_a_future_cancelled_by_the_redis_client_means_that_redis_is_away() -> None:
    redis = lone_store(_NOWHERE)
    with pytest.raises(RedisDown):
        await redis.call(lambda _: _wait_for_a_cancelled_future())
    await redis.close()


async def test_our_own_cancellation_ends_the_task() -> None:
    redis = lone_store(_NOWHERE)

    async def in_both() -> None:
        with failures_as_unavailable():
            await redis.call(lambda _: asyncio.sleep(9))

    task = asyncio.create_task(in_both())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    await redis.close()
