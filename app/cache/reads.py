"""Reading through the cache without ever reading a stale value.

A value enters the cache in one way only: it is filled under a lease, from a database read that
began after the lease was granted. A write deletes value and lease together, so a reader that loaded
the old row can no longer fill. While Redis has not confirmed a deletion, the trust window makes
every process read that key from the database. docs/cache.md has the whole argument.
"""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TypeAlias

import msgspec
import structlog

from app.cache.current import TRUST_SECONDS
from app.cache.entities import CachedEntity
from app.cache.store import CacheStore, RedisDown
from app.database import Database
from app.errors import NotFound
from app.metrics import CACHE_READS, Tally
from app.runtime.clock import now
from app.runtime.data_loader import DataLoader
from app.runtime.micro_batcher import MicroBatcher

log = structlog.get_logger(__name__)
_decode = msgspec.json.Decoder().decode

# How long, and how often, to look for the value that another reader is about to fill in.
_PATIENCE_SECONDS = 0.06
_LOOK_SECONDS = 0.01
# A value on its way, which may turn out to be none. None: nobody was asked.
Coming: TypeAlias = "asyncio.Future[bytes | None] | None"
# In place of a row: another reader has its lease.
_TAKEN = b""


def _tally(entity: str, result: str) -> Tally:
    reads = CACHE_READS.labels(entity, result)
    return Tally(lambda numbers: reads.inc(sum(numbers)))


class TrustWindow:
    """Until when this process may trust its cache, and for which keys it may not.

    Each look at the table of unconfirmed deletions opens it for TRUST_SECONDS; see
    invalidation.py."""

    def __init__(self) -> None:
        self._until = 0.0
        self._dirty: frozenset[str] = frozenset()
        self._all_dirty = False

    def allows(self, key: str) -> bool:
        return now() < self._until and not self._all_dirty and key not in self._dirty

    def open(self, looked_at: float, dirty: Collection[str], all_dirty: bool) -> None:
        """`dirty` are the keys with a deletion that was unconfirmed at `looked_at`."""
        self._dirty = frozenset(dirty)
        self._all_dirty = all_dirty
        self._until = looked_at + TRUST_SECONDS


class ReadThroughCache:
    """The rows of one entity: from Redis where that is safe, else from the database."""

    def __init__(
        self, entity: CachedEntity, store: CacheStore, trust: TrustWindow, database: Database
    ) -> None:
        self._entity = entity
        self._store = store
        self._trust = trust
        self._database = database
        self._rows = DataLoader(self._select)
        self._misses = DataLoader(self._load_and_fill)
        self._refreshes = MicroBatcher(self._refresh_all, most=100)
        self._fields: set[str] | None = None
        self._debug = log.bind().debug  # structlog looks its logger up again for every call
        self._tallies = {
            result: _tally(entity.name, result) for result in ("hit", "miss", "bypass", "error")
        }

    async def read(self, identity: int) -> bytes:
        """The row as JSON, never older than the last acknowledged write. Raises NotFound, and
        Unavailable."""
        return await self.resolve(identity, self.peek(identity))

    def peek(self, identity: int) -> Coming:
        """The value in Redis, for a reader that needs no task for a hit. Ask `is_hit` whether it is
        one, and `resolve` if it is not. None if the cache is not to be trusted."""
        key = self._entity.key(identity)
        return self._store.value(key) if self._trust.allows(key) else None

    def past_redis(self, identity: int, peeked: Coming) -> Coming:
        """The row in the database, for a reader that needs no task for that. None unless `peek` has
        returned None, or Redis is down."""
        if peeked is None:
            return self._load(identity, "bypass")
        if not peeked.cancelled() and isinstance(peeked.exception(), RedisDown):
            return self._load(identity, "error")
        return None

    async def resolve(self, identity: int, peeked: Coming, loading: Coming = None) -> bytes:
        """As `read`, from what `peek`, and after it `past_redis`, have returned."""
        key = self._entity.key(identity)
        try:
            if loading is not None:
                row = await loading
            elif peeked is None:
                row = await self._load(identity, "bypass")
            elif (value := await peeked) and self.is_hit(identity, value):
                self._debug("cache hit", key=key)
                return value
            else:
                row = await self._missed(identity, key)
        except RedisDown:
            row = await self._load(identity, "error")
        if row is None:
            raise NotFound(self._entity.name, identity)
        return row

    async def _missed(self, identity: int, key: str) -> bytes | None:
        log.info("cache miss", key=key)
        value = await self._misses.get(identity)
        return await self._wait_for_other(identity, key) if value == _TAKEN else value

    def is_hit(self, identity: int, value: bytes) -> bool:
        """Whether it has the fields of the rows that we load. A person may have written the key, or
        another release of this service. Counts it if so."""
        try:
            row = _decode(value)
        except (ValueError, RecursionError):
            return False
        if not isinstance(row, dict) or row.get("id") != identity or row.keys() != self._fields:
            return False
        self._tallies["hit"].note()
        return True

    async def _load_and_fill(self, ids: list[int]) -> dict[int, bytes]:
        """The rows whose leases are free. Nothing joins once this has begun, so the leases are
        older than the SELECT for every caller."""
        token, granted = await self._store.take_leases([self._entity.key(id) for id in ids])
        ours = [id for id, is_ours in zip(ids, granted, strict=True) if is_ours]
        others = {id: _TAKEN for id, is_ours in zip(ids, granted, strict=True) if not is_ours}
        if not ours:
            return others
        self._tallies["miss"].note(len(ours))
        rows = await self._select(ours)
        await self._fill({self._entity.key(id): rows.get(id) for id in ours}, token)
        return rows | others

    async def _select(self, ids: list[int]) -> dict[int, bytes]:
        rows = await self._entity.load(self._database, ids)
        if self._fields is None and rows:
            self._fields = set(msgspec.json.decode(next(iter(rows.values()))))
        return rows

    async def _fill(self, values: dict[str, bytes | None], token: str) -> None:
        try:
            await self._store.fill(values, token, self._entity.ttl)
        except RedisDown:
            log.debug("cache not filled", keys=list(values))

    async def _wait_for_other(self, identity: int, key: str) -> bytes | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while True:
                    await asyncio.sleep(_LOOK_SECONDS)
                    if (value := await self._store.value(key)) and self.is_hit(identity, value):
                        self._debug("cache hit", key=key)
                        return value
        return await self._load(identity, "miss")

    def _load(self, identity: int, result: str) -> "asyncio.Future[bytes | None]":
        self._tallies[result].note()
        return self._rows.get(identity)

    async def refresh(self, identity: int) -> bool:
        """After a committed update: put the row as it is now into the cache.

        True when Redis has confirmed that the old value is gone."""
        return await self._refreshes.submit(identity)

    async def _refresh_all(self, ids: Sequence[int]) -> Sequence[bool]:
        keys = {id: self._entity.key(id) for id in ids}
        try:
            token = await self._store.delete_and_lease(list(keys.values()))
        except RedisDown:  # a full Redis grants no lease, but deletes
            return [await self._store.delete(list(keys.values()))] * len(ids)
        try:
            rows = await self._select(list(keys))
            values = {key: rows.get(id) for id, key in keys.items()}
            await self._store.fill(values, token, self._entity.ttl)
        except Exception as error:  # the change is committed, and the old values are gone
            log.warning("cache not filled", keys=list(keys.values()), error=repr(error))
        return [True] * len(ids)
