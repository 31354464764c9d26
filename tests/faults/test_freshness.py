"""Freshness: what a process may read from its cache, when the database or Redis hangs."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.cache import invalidation
from app.cache.invalidation import (
    LEASE_SECONDS,
    MOST_DIRTY_KEYS,
    Freshness,
    InvalidationRelay,
    Pending,
    acknowledge_late,
)
from app.container import Container
from app.runtime.loops import running
from app.settings import Settings
from harness.databases import connected
from harness.waiting import eventually
from tests.faults.proxy import proxy_to


class Table:
    """What the relay sees of `cache_invalidations`, and of Redis."""

    def __init__(self, *rows: Pending) -> None:
        self.rows = list(rows)
        self.deletions: list[list[str]] = []
        self.redis_answers = True
        self.thinned_out = 0

    async def fetch(self, limit: int) -> Sequence[Pending]:
        return self.rows[:limit]

    async def delete(self, keys: Sequence[str]) -> bool:
        self.deletions.append(list(keys))
        return self.redis_answers

    async def forget(self, ids: Sequence[int]) -> None:
        self.rows = [row for row in self.rows if row.id not in ids]

    def relay(self) -> InvalidationRelay:
        return InvalidationRelay(Freshness(), self.fetch, self.delete, self.forget, self.compact)

    async def compact(self) -> None:
        self.thinned_out += 1


async def test_nothing_may_be_read_before_the_first_poll() -> None:
    assert not Freshness().allows("user:1")


async def test_a_poll_that_hangs_ends_the_permission() -> None:
    fresh = Freshness()
    await fresh.poll(Table().fetch)
    assert fresh.allows("user:1")

    async def hang(_: int) -> Sequence[Pending]:
        await asyncio.sleep(60)
        return []

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await fresh.poll(hang)
    assert fresh.allows("user:1")
    await asyncio.sleep(began + LEASE_SECONDS - time.monotonic())
    assert not fresh.allows("user:1")


async def test_the_permission_counts_from_the_begin_of_the_poll() -> None:
    fresh = Freshness()

    async def slow(_: int) -> Sequence[Pending]:
        await asyncio.sleep(LEASE_SECONDS / 2 - 0.05)
        return []

    began = time.monotonic()
    await fresh.poll(slow)
    await asyncio.sleep(began + LEASE_SECONDS - time.monotonic())
    assert not fresh.allows("user:1")


async def test_keys_with_a_row_are_not_read_and_too_many_mean_all() -> None:
    fresh = Freshness()
    await fresh.poll(Table(Pending(1, "user:1", 0)).fetch)
    assert not fresh.allows("user:1")
    assert fresh.allows("user:2")
    rows = [Pending(number, "user:1", 0) for number in range(MOST_DIRTY_KEYS + 1)]
    await fresh.poll(Table(*rows).fetch)
    assert not fresh.allows("user:2")


async def test_the_relay_finishes_old_rows_only() -> None:
    table = Table(Pending(1, "user:1", 0.2), Pending(2, "user:2", 0.1))
    await table.relay().step()
    assert table.deletions == [["user:1"]]
    assert [row.id for row in table.rows] == [2]


async def test_while_redis_is_away_the_rows_are_thinned_out_now_and_then() -> None:
    table = Table(Pending(1, "user:1", 9.0))
    table.redis_answers = False
    relay = table.relay()
    for _ in range(3):
        await relay.step()
    assert table.rows and table.thinned_out == 1
    table.redis_answers = True
    await relay.step()
    assert not table.rows


async def test_an_acknowledgement_is_never_early() -> None:
    for _ in range(3):
        committed_at = invalidation.now()
        await acknowledge_late(committed_at)
        assert invalidation.now() - committed_at > LEASE_SECONDS


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[Container]:
    async with Container.open(settings) as container, running(*container.loops_of_reader):
        yield container


async def may_read(container: Container) -> bool:
    return container.cache.may_use("user:1")


@pytest.mark.fault
async def test_polls_go_on_after_the_database_hung(settings: Settings) -> None:
    address = settings.postgresql_url.rpartition("@")[2].partition("/")[0]
    async with proxy_to(int(address.rpartition(":")[2])) as link:
        through = settings.postgresql_url.replace(address, f"{link.host}:{link.port}")
        async with reading(settings.model_copy(update={"database_url": through})) as container:
            await eventually(lambda: may_read(container))
            link.hang()
            await eventually(lambda: not container.cache.may_use("user:1"), seconds=1)
            await asyncio.sleep(1)
            await link.heal()
            await eventually(lambda: may_read(container), seconds=3)


@pytest.mark.fault
async def test_the_table_stays_small_while_redis_is_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last row of each key stays, however many keys there are."""
    monkeypatch.setattr(invalidation, "COMPACT_SECONDS", 0.3)
    async with connected(settings.postgresql_url) as database:
        count = "SELECT count(*) FROM cache_invalidations"
        last = "SELECT count(*) FROM cache_invalidations WHERE id > 15000 - 7"
        async with reading(settings.model_copy(update={"redis_port": 9})):
            await database.execute(
                "INSERT INTO cache_invalidations (key) "
                "SELECT 'product:' || n FROM generate_series(1, 11000) n UNION ALL "
                "SELECT 'user:' || n % 7 FROM generate_series(1, 4000) n"
            )
            await eventually(lambda: _is(database.fetchval(count), 11_007), seconds=5)
            assert await database.fetchval(last) == 7
        async with reading(settings):
            await eventually(lambda: _is(database.fetchval(count), 0), seconds=10)


@pytest.mark.fault
async def test_the_relay_works_though_the_pool_is_full(settings: Settings) -> None:
    async with connected(settings.postgresql_url) as database, AsyncExitStack() as full:
        async with reading(settings) as container:
            for _ in range(10):
                uow = await full.enter_async_context(container.reading())
                await uow.users.list(1, 1)
            await database.execute("INSERT INTO cache_invalidations (key) VALUES ('user:1')")
            gone = "SELECT count(*) FROM cache_invalidations"
            await eventually(lambda: _is(database.fetchval(gone), 0), seconds=2)
            await full.aclose()


async def _is(asked: object, value: int) -> bool:
    return bool(await asked == value)  # type: ignore[misc]
