"""Cache-aside without stale reads.

A value enters the cache in one way only: filled under a lease, from a database read that began
after the lease was granted. A write deletes value and lease together, so a reader that loaded the
old row can no longer fill. While a deletion is not confirmed by Redis, `Freshness` makes every
process read that key from the database. docs/cache.md has the whole argument.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog

from app.cache.redis import RedisDown
from app.cache.store import Cache
from app.metrics import CACHE_READS
from app.runtime.data_loader import DataLoader
from app.runtime.micro_batcher import MicroBatcher

log = structlog.get_logger(__name__)

# How long, and how often, to look for the value that another reader is about to put there.
_PATIENCE_SECONDS = 0.06
_LOOK_SECONDS = 0.01
# In place of a row: another reader has its lease.
_TAKEN = b""


@dataclass(frozen=True)
class CachedEntity:
    """What is cached under `name:{id}`. `load` reads committed rows, each as its JSON."""

    name: str
    ttl: int
    load: Callable[[list[int]], Awaitable[dict[int, bytes]]]

    def key(self, identity: int) -> str:
        return f"{self.name}:{identity}"


class ReadThroughCache:
    """The cache-aside reads of one kind."""

    def __init__(self, cache: Cache, kind: CachedEntity) -> None:
        self._cache = cache
        self._kind = kind
        self._rows = DataLoader(self._select)
        self._misses = DataLoader(self._load_and_fill)
        self._refreshes = MicroBatcher(self._refresh_all, most=100)
        self._fields: set[str] | None = None
        self._count = {
            result: CACHE_READS.labels(kind.name, result).inc
            for result in ("hit", "miss", "bypass", "error")
        }

    def key(self, identity: int) -> str:
        return self._kind.key(identity)

    async def read(self, identity: int) -> bytes | None:
        """The row as JSON, never older than the last acknowledged write; None if there is none."""
        key = self._kind.key(identity)
        if not self._cache.may_use(key):
            return await self._load(identity, "bypass")
        try:
            value = await self._hit(identity, key)
            if value is None:
                log.info("cache miss", key=key)
                value = await self._misses.get(identity)
            return await self._wait_for_other(identity) if value == _TAKEN else value
        except RedisDown:
            return await self._load(identity, "error")

    async def _hit(self, identity: int, key: str) -> bytes | None:
        value = await self._cache.value(key)
        if value is None or not self._is_row(value, identity):
            return None
        self._count["hit"]()
        log.debug("cache hit", key=key)
        return value

    def _is_row(self, value: bytes, identity: int) -> bool:
        """Whether it has the fields of the rows that we load. Somebody may have written the key by
        hand, or another release of this service."""
        try:
            row = msgspec.json.decode(value)
        except (ValueError, RecursionError):
            return False
        return isinstance(row, dict) and row.get("id") == identity and row.keys() == self._fields

    async def _load_and_fill(self, ids: list[int]) -> dict[int, bytes]:
        """The rows whose leases are free. DataLoader lets nobody join once this has begun."""
        token, granted = await self._cache.take_leases([self.key(id) for id in ids])
        ours = [id for id, is_ours in zip(ids, granted, strict=True) if is_ours]
        others = {id: _TAKEN for id, is_ours in zip(ids, granted, strict=True) if not is_ours}
        if not ours:
            return others
        self._count["miss"](len(ours))
        rows = await self._select(ours)
        await self._fill({self.key(id): rows.get(id) for id in ours}, token)
        return rows | others

    async def _select(self, ids: list[int]) -> dict[int, bytes]:
        rows = await self._kind.load(ids)
        if self._fields is None and rows:
            self._fields = set(msgspec.json.decode(next(iter(rows.values()))))
        return rows

    async def _fill(self, values: dict[str, bytes | None], token: str) -> None:
        try:
            await self._cache.fill(values, token, self._kind.ttl)
        except RedisDown:
            log.debug("cache not filled", keys=list(values))

    async def _wait_for_other(self, identity: int) -> bytes | None:
        key = self.key(identity)
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while True:
                    await asyncio.sleep(_LOOK_SECONDS)
                    if (value := await self._hit(identity, key)) is not None:
                        return value
        return await self._load(identity, "miss")

    async def _load(self, identity: int, result: str) -> bytes | None:
        self._count[result]()
        return await self._rows.get(identity)

    async def refresh(self, identity: int) -> bool:
        """After a committed update: put the row as it is now into the cache.

        True when Redis has confirmed that the old value is gone."""
        return await self._refreshes.submit(identity)

    async def _refresh_all(self, ids: Sequence[int]) -> Sequence[bool]:
        keys = {id: self.key(id) for id in ids}
        try:
            token = await self._cache.delete_and_lease(list(keys.values()))
        except RedisDown:  # a full Redis grants no lease, but deletes
            return [await self._cache.delete(list(keys.values()))] * len(ids)
        try:
            rows = await self._select(list(keys))
            values = {key: rows.get(id) for id, key in keys.items()}
            await self._cache.fill(values, token, self._kind.ttl)
        except Exception as error:  # the changes stand, and the old values are gone
            log.warning("cache not filled", keys=list(keys.values()), error=repr(error))
        return [True] * len(ids)
