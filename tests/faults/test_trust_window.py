"""The trust window: what a process may read from its cache while the database or Redis hangs."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from app.cache import invalidation
from app.cache.current import TRUST_SECONDS, CurrentRedis, windows_closed
from app.cache.invalidation import MOST_DIRTY_KEYS, Invalidator, Unconfirmed
from app.cache.reads import TrustWindow
from app.container import Container
from app.repositories.invalidations import Pending
from app.runtime.clock import now
from app.runtime.loops import running
from app.schemas.pages import PageRequest
from app.settings import Settings
from harness.databases import connected
from harness.waiting import eventually
from tests.faults.proxy import proxy_to


class Table(Unconfirmed):
    """What the invalidator sees of `cache_invalidations`, and of Redis."""

    def __init__(self, *rows: Pending) -> None:  # pylint: disable=super-init-not-called
        self.rows = list(rows)
        self.deletions: list[list[str]] = []
        self.redis_answers = True
        self.compacted = 0
        self.seconds = 0.0

    async def pending(self, limit: int) -> tuple[Sequence[Pending], None]:
        await asyncio.sleep(self.seconds)
        return self.rows[:limit], None

    async def delete(self, keys: Sequence[str]) -> bool:
        self.deletions.append(list(keys))
        return self.redis_answers

    async def forget(self, ids: Sequence[int]) -> None:
        self.rows = [row for row in self.rows if row.id not in ids]

    async def compact(self) -> None:
        self.compacted += 1

    def invalidator(self, trust: TrustWindow | None = None) -> Invalidator:
        redis: Any = self
        return Invalidator(trust or TrustWindow(), CurrentRedis([]), self, redis)


async def test_nothing_may_be_read_before_the_first_look() -> None:
    assert not TrustWindow().allows("user:1")


async def test_a_look_that_hangs_lets_the_window_close() -> None:
    trust, table = TrustWindow(), Table()
    await table.invalidator(trust).look()
    assert trust.allows("user:1")
    table.seconds = 60
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await table.invalidator(trust).look()
    assert trust.allows("user:1")
    await asyncio.sleep(began + TRUST_SECONDS - time.monotonic())
    assert not trust.allows("user:1")


async def test_the_window_counts_from_the_beginning_of_the_look() -> None:
    trust, table = TrustWindow(), Table()
    table.seconds = TRUST_SECONDS / 2 - 0.05
    began = time.monotonic()
    await table.invalidator(trust).look()
    await asyncio.sleep(began + TRUST_SECONDS - time.monotonic())
    assert not trust.allows("user:1")


async def test_keys_with_a_row_are_not_read_and_too_many_rows_block_all_keys() -> None:
    trust = TrustWindow()
    await Table(Pending(1, "user:1", 0)).invalidator(trust).look()
    assert not trust.allows("user:1")
    assert trust.allows("user:2")
    rows = [Pending(number, "user:1", 0) for number in range(MOST_DIRTY_KEYS + 1)]
    await Table(*rows).invalidator(trust).look()
    assert not trust.allows("user:2")


async def test_the_invalidator_finishes_old_rows_only() -> None:
    table = Table(Pending(1, "user:1", 0.2), Pending(2, "user:2", 0.1))
    await table.invalidator().tick()
    assert table.deletions == [["user:1"]]
    assert [row.id for row in table.rows] == [2]


async def test_while_redis_is_away_the_rows_are_compacted_now_and_then() -> None:
    table = Table(Pending(1, "user:1", 9.0))
    table.redis_answers = False
    invalidator = table.invalidator()
    for _ in range(3):
        await invalidator.tick()
    assert table.rows and table.compacted == 1
    table.redis_answers = True
    await invalidator.tick()
    assert not table.rows


async def test_an_acknowledgement_is_never_early() -> None:
    for _ in range(3):
        committed_at = now()
        await windows_closed(committed_at)
        assert now() - committed_at > TRUST_SECONDS


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[Container]:
    async with Container.open(settings) as container, running(*container.reading_loops):
        yield container


async def may_read(container: Container) -> bool:
    return container.caches.trust.allows("user:1")


@pytest.mark.fault
async def test_the_window_opens_again_after_the_database_hung(settings: Settings) -> None:
    [(host, port)] = settings.postgresql_address.hosts
    async with proxy_to(port) as link:
        assert settings.database_url
        through = settings.database_url.replace(f"{host}:{port}", f"{link.host}:{link.port}")
        async with reading(settings.model_copy(update={"database_url": through})) as container:
            await eventually(lambda: may_read(container))
            link.hang()
            await eventually(lambda: not container.caches.trust.allows("user:1"), seconds=1)
            await asyncio.sleep(1)
            await link.heal()
            await eventually(lambda: may_read(container))


@pytest.mark.fault
async def test_the_table_stays_small_while_redis_is_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last row of each key stays, for any number of keys."""
    monkeypatch.setattr(invalidation, "COMPACT_SECONDS", 0.3)
    async with connected(settings.database_url or "") as database:
        count = "SELECT count(*) FROM cache_invalidations"
        last = "SELECT count(*) FROM cache_invalidations WHERE id > 15000 - 7"
        async with reading(settings.model_copy(update={"redis_port": 9})):
            await database.execute(
                "INSERT INTO cache_invalidations (key) "
                "SELECT 'product:' || n FROM generate_series(1, 11000) n UNION ALL "
                "SELECT 'user:' || n % 7 FROM generate_series(1, 4000) n"
            )
            await eventually(lambda: _is(database.fetchval(count), 11_007))
            assert await database.fetchval(last) == 7
        async with reading(settings):
            await eventually(lambda: _is(database.fetchval(count), 0))


@pytest.mark.fault
async def test_the_invalidator_works_while_the_pool_is_full(settings: Settings) -> None:
    async with connected(settings.database_url or "") as database, AsyncExitStack() as full:
        async with reading(settings) as container:
            for _ in range(10):
                uow = await full.enter_async_context(container.reading())
                await uow.users.list(PageRequest())
            await database.execute("INSERT INTO cache_invalidations (key) VALUES ('user:1')")
            gone = "SELECT count(*) FROM cache_invalidations"
            await eventually(lambda: _is(database.fetchval(gone), 0))
            await full.aclose()


async def _is(asked: object, value: int) -> bool:
    return bool(await asked == value)  # type: ignore[misc]
