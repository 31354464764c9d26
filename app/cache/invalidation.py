"""Which keys may be read from the cache, and for how long that answer holds.

Rows of `cache_invalidations` are the keys whose deletion Redis has not confirmed. Each reading
process polls them; while its last poll is younger than LEASE it may use the cache for all other
keys. A writer whose deletion fails waits longer than LEASE before it acknowledges, so by then every
process either has seen the row or has stopped using its cache.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

POLL_SECONDS = 0.1
LEASE_SECONDS = 0.4
MARGIN_SECONDS = 0.02
RELAY_AFTER_SECONDS = 0.15
MOST_DIRTY_KEYS = 1000
COMPACT_SECONDS = 10
# A suspended machine must not come back with a lease that looks young.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    return time.clock_gettime(_CLOCK)


class Pending(NamedTuple):
    id: int
    key: str
    age: float


Poll = Callable[[int], Awaitable[Sequence[Pending]]]


class Freshness:
    def __init__(self) -> None:
        self._lease_until = 0.0
        self._dirty: frozenset[str] = frozenset()
        self._all_dirty = False

    def allows(self, key: str) -> bool:
        return now() < self._lease_until and not self._all_dirty and key not in self._dirty

    async def poll(self, fetch: Poll) -> Sequence[Pending]:
        began = now()
        async with asyncio.timeout(LEASE_SECONDS / 2):
            rows = await fetch(MOST_DIRTY_KEYS + 1)
        self._dirty = frozenset(row.key for row in rows)
        self._all_dirty = len(rows) > MOST_DIRTY_KEYS
        self._lease_until = began + LEASE_SECONDS
        return rows


async def acknowledge_late(committed_at: float) -> None:
    """Wait until no process can hold a lease from before the commit."""
    # The loop's clock is another one than ours, and its timers may fire early.
    while (left := committed_at + LEASE_SECONDS + MARGIN_SECONDS - now()) > 0:
        await asyncio.sleep(left)


class InvalidationRelay:
    """Polls for this process, and finishes the deletions that their writers could not confirm."""

    def __init__(
        self,
        freshness: Freshness,
        fetch: Poll,
        delete: Callable[[Sequence[str]], Awaitable[bool]],
        forget: Callable[[Sequence[int]], Awaitable[None]],
        compact: Callable[[], Awaitable[None]],
    ) -> None:
        self._freshness = freshness
        self._fetch = fetch
        self._delete = delete
        self._forget = forget
        self._compact = compact
        self._thin_out_at = 0.0

    async def step(self) -> None:
        rows = await self._freshness.poll(self._fetch)
        old = [row for row in rows if row.age > RELAY_AFTER_SECONDS]
        if not old:
            return
        if await self._delete(sorted({row.key for row in old})):
            async with asyncio.timeout(LEASE_SECONDS / 2):  # or the next poll comes too late
                await self._forget([row.id for row in old])
        elif now() >= self._thin_out_at:
            self._thin_out_at = now() + COMPACT_SECONDS
            await self._compact()


class InvalidationCleaner:
    """Deletes confirmed rows in the background: they are only a hint by then."""

    def __init__(self, forget: Callable[[Sequence[int]], Awaitable[None]]) -> None:
        self._forget = forget
        self._ids: list[int] = []
        self._wake = asyncio.Event()

    def add(self, ids: Sequence[int]) -> None:
        self._ids.extend(ids)
        self._wake.set()

    async def step(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        ids, self._ids = self._ids, []
        await self._forget(ids)
