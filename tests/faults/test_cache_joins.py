"""Readers share loads, but never join a load that began before their request: each race, step by
step."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from app.cache.current import CurrentRedis
from app.cache.entities import CachedEntity
from app.cache.reads import ReadThroughCache, TrustWindow
from app.embedded import Valkey
from app.runtime.clock import now
from app.runtime.data_loader import DataLoader
from app.server_addresses import RedisAddress
from harness.caches import Row, lone_store
from harness.dependencies import redis_address
from harness.waiting import eventually


class Rows:
    """A table of one row. A load reads the value at once and returns it when the gate opens."""

    def __init__(self) -> None:
        self.value = 1
        self.loads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, _: Any, ids: Sequence[int]) -> dict[int, bytes]:
        found = {id: json.dumps({"id": id, "value": self.value}).encode() for id in ids}
        self.loads += 1
        await self.gate.wait()
        return found


class Shop:
    def __init__(self, address: RedisAddress) -> None:
        self.rows = Rows()
        self._row, self._current = Row(), CurrentRedis([])
        self.store = lone_store(address, "user", row=self._row, current=self._current)
        self.trust = TrustWindow()
        user = CachedEntity("user", 60, self.rows.load, deleted_by=frozenset())
        no_database: Any = None
        self.reads = ReadThroughCache(user, self.store, self.trust, no_database)

    def look(self, *dirty: str) -> None:
        self.trust.open(now(), dirty, all_dirty=False)
        self._current.learn(self._row.standing, now())

    async def read(self) -> int:
        value = await self.reads.read(1)
        assert value is not None
        return int(json.loads(value)["value"])

    async def slow_read(self) -> "asyncio.Task[int]":
        """Starts a read that has loaded its row and waits at the gate."""
        loads = self.rows.loads
        self.rows.gate.clear()
        task = asyncio.create_task(self.read())
        await eventually(lambda: self.rows.loads == loads + 1)
        return task


@pytest.fixture
async def shop(valkey: Valkey) -> AsyncIterator[Shop]:
    shop = Shop(redis_address(f"{valkey.url}/0"))
    shop.look()
    await shop.read()
    await shop.store.delete(["user:1"])
    yield shop
    await shop.store.close()


async def _delete(shop: Shop) -> None:
    assert await shop.store.delete(["user:1"])


async def _refresh(shop: Shop) -> None:
    shop.rows.gate.set()
    assert await shop.reads.refresh(1)


@pytest.mark.parametrize("dirty", [(), ("user:1",)], ids=["cached", "bypassing"])
@pytest.mark.parametrize("acknowledge", [_delete, _refresh])
async def test_a_read_after_the_acknowledgement_returns_the_new_value(
    dirty: tuple[str, ...], acknowledge: Callable[[Shop], asyncio.Future[None]], shop: Shop
) -> None:
    shop.look(*dirty)
    early = await shop.slow_read()
    shop.rows.value = 2
    await acknowledge(shop)
    shop.look(*dirty)
    late = asyncio.create_task(shop.read())
    await asyncio.sleep(0.02)
    shop.rows.gate.set()
    assert await early == 1
    assert await late == 2
    assert await shop.read() == 2


async def test_an_outdated_row_is_not_cached(shop: Shop, valkey: Valkey) -> None:
    early = await shop.slow_read()
    shop.rows.value = 2
    await _delete(shop)
    shop.rows.gate.set()
    assert await early == 1
    async with Redis(port=valkey.port) as redis:
        assert not await redis.exists("user:1", "lease:user:1")


async def test_concurrent_readers_share_one_load_even_if_one_is_cancelled(
    shop: Shop,
) -> None:
    loads = shop.rows.loads
    first, *others = [asyncio.create_task(shop.read()) for _ in range(50)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    assert set(await asyncio.gather(*others)) == {1}
    assert shop.rows.loads == loads + 1


async def test_concurrent_misses_load_together_and_do_not_wait_for_leases_of_others(
    shop: Shop, valkey: Valkey
) -> None:
    await shop.store.take_leases(["user:1"])  # by another process
    loads = shop.rows.loads
    waiting, *free = [asyncio.create_task(shop.reads.read(id)) for id in (1, 2, 3, 2)]
    await asyncio.gather(*free)
    assert not waiting.done()
    assert shop.rows.loads == loads + 1
    assert await waiting == b'{"id": 1, "value": 1}'
    async with Redis(port=valkey.port) as redis:
        assert sorted(await redis.keys("user:*")) == [b"user:2", b"user:3"]
        assert await redis.keys("lease:*") == [b"lease:user:1"]


async def test_a_fill_stores_only_values_whose_lease_is_still_held(
    shop: Shop, valkey: Valkey
) -> None:
    """Of the leases taken together, a writer deletes two, and another reader takes one of them."""
    token, granted = await shop.store.take_leases(["user:1", "user:2", "user:3", "user:4"])
    assert granted == [1, 1, 1, 1]
    assert await shop.store.delete(["user:1", "user:2"])
    assert (await shop.store.take_leases(["user:2", "user:3"]))[1] == [1, 0]
    values = {"user:1": b"old", "user:2": b"old", "user:3": b"new", "user:4": None}
    async with Redis(port=valkey.port) as redis:
        await redis.set("user:4", "the row that was here before")
        await shop.store.fill(values, token, 60)
        assert await redis.keys("user:*") == [b"user:3"]
        assert await redis.get("user:3") == b"new" and 58 <= await redis.ttl("user:3") <= 60
        assert await redis.keys("lease:*") == [b"lease:user:2"]


async def test_a_look_up_during_a_call_makes_a_new_call() -> None:
    rows = Rows()
    loader = DataLoader(partial(rows.load, None))
    rows.gate.clear()
    early = loader.get(1)
    await eventually(lambda: rows.loads == 1)
    rows.value = 2
    late = loader.get(1)
    await eventually(lambda: rows.loads == 2)
    rows.gate.set()
    assert await early == b'{"id": 1, "value": 1}'
    assert await late == b'{"id": 1, "value": 2}'


async def test_a_failed_call_raises_in_every_look_up() -> None:
    async def fail(_: list[int]) -> dict[int, bytes]:
        raise OSError("away")

    loader = DataLoader(fail)
    results = await asyncio.gather(*(loader.get(1) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [OSError] * 3
