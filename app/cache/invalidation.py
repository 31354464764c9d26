"""The deletions that Redis has not confirmed, and when a process may trust its cache.

A row of `cache_invalidations` is a key whose deletion is not confirmed. A writer inserts it in its
own transaction, and it is deleted when Redis has confirmed. Each reading process looks at the table
every POLL_SECONDS; a look opens its trust window for TRUST_SECONDS, for all other keys. A writer
whose deletion fails waits longer than TRUST_SECONDS before it acknowledges: by then every process
has seen the row, or no longer trusts its cache.
"""

import asyncio
from collections.abc import Sequence

from app.cache.current import TRUST_SECONDS, CurrentRedis
from app.cache.reads import TrustWindow
from app.cache.store import CacheStore
from app.database import Database
from app.repositories.cache_servers import Standing
from app.repositories.invalidations import InvalidationRepository, Pending
from app.runtime.clock import now

POLL_SECONDS = 0.1
FINISH_AFTER_SECONDS = 0.15
MOST_DIRTY_KEYS = 1000
COMPACT_SECONDS = 10


class Unconfirmed:
    """The table of the deletions that Redis has not confirmed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(self, limit: int) -> tuple[Sequence[Pending], Standing | None]:
        async with self._database.autocommit() as connection:
            return await InvalidationRepository(connection).pending(limit)

    async def forget(self, ids: Sequence[int]) -> None:
        async with self._database.autocommit() as connection:
            await InvalidationRepository(connection).forget(ids)

    async def compact(self) -> None:
        async with self._database.autocommit() as connection:
            await InvalidationRepository(connection).compact()


class Invalidator:
    """Keeps the trust window of a reading process open, and finishes the deletions that their
    writers could not confirm."""

    def __init__(
        self,
        trust: TrustWindow,
        current: CurrentRedis,
        unconfirmed: Unconfirmed,
        store: CacheStore,
    ) -> None:
        self._trust = trust
        self._current = current
        self._unconfirmed = unconfirmed
        self._store = store
        self._compact_at = 0.0

    async def look(self) -> Sequence[Pending]:
        """The oldest unconfirmed deletions. Raises TimeoutError if that takes too long for the
        window to stay open."""
        looked_at = now()
        async with asyncio.timeout(TRUST_SECONDS / 2):
            rows, standing = await self._unconfirmed.pending(MOST_DIRTY_KEYS + 1)
        self._current.learn(standing, looked_at)
        self._trust.open(looked_at, {row.key for row in rows}, len(rows) > MOST_DIRTY_KEYS)
        return rows

    async def tick(self) -> None:
        old = [row for row in await self.look() if row.age > FINISH_AFTER_SECONDS]
        if not old:
            return
        if await self._store.delete(sorted({row.key for row in old})):
            async with asyncio.timeout(TRUST_SECONDS / 2):  # or the next look comes too late
                await self._unconfirmed.forget([row.id for row in old])
        elif now() >= self._compact_at:
            self._compact_at = now() + COMPACT_SECONDS
            await self._unconfirmed.compact()


class InvalidationCleaner:
    """Deletes the rows of confirmed deletions in the background: nobody waits for that."""

    def __init__(self, unconfirmed: Unconfirmed) -> None:
        self._unconfirmed = unconfirmed
        self._ids: list[int] = []
        self._wake = asyncio.Event()

    def add(self, ids: Sequence[int]) -> None:
        self._ids.extend(ids)
        self._wake.set()

    async def tick(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        ids, self._ids = self._ids, []
        await self._unconfirmed.forget(ids)
