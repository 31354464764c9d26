"""Cache-aside without stale reads.

A value enters the cache in one way only: filled under a lease, from a database read that began
after the lease was granted. A write deletes value and lease together, so a reader that loaded the
old row can no longer fill. While a deletion is not confirmed by Redis, `Freshness` makes every
process read that key from the database. docs/cache.md has the whole argument.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis

from app.errors import Unavailable
from app.infra.batches import Batches
from app.infra.freshness import Freshness
from app.infra.gather import Gather
from app.infra.redis import CacheRedis, RedisDown
from app.metrics import CACHE_INVALIDATIONS, CACHE_READS

log = structlog.get_logger(__name__)

_LEASE_MS = 3000
_PROBE_KEY = "cache:probe"
_PROBE_MS = 1000
# How long, and how often, to look for the value that another reader is about to put there.
_PATIENCE_SECONDS = 0.06
_LOOK_SECONDS = 0.01
# For all keys of one moment; each lease still only if nobody has it.
_LEASE = """
local granted = {}
for i, lease in ipairs(KEYS) do
  granted[i] = redis.call('SET', lease, ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
end
return granted
"""
# Pairs of value and lease. An empty value: the row does not exist.
_FILL = """
for i = 1, #KEYS, 2 do
  local value = ARGV[2 + (i + 1) / 2]
  if redis.call('GET', KEYS[i + 1]) == ARGV[1] then
    if value == '' then redis.call('DEL', KEYS[i])
    else redis.call('SET', KEYS[i], value, 'EX', ARGV[2]) end
    redis.call('DEL', KEYS[i + 1])
  end
end
"""
# In place of a row: another reader has its lease.
_TAKEN = b""


def _lease(key: str) -> str:
    return f"lease:{key}"


@dataclass(frozen=True)
class Kind:
    """What is cached under `name:{id}`. `load` reads committed rows, each as its JSON."""

    name: str
    ttl: int
    load: Callable[[list[int]], Awaitable[dict[int, bytes]]]

    def key(self, identity: int) -> str:
        return f"{self.name}:{identity}"


class Cache:
    def __init__(self, redis: CacheRedis, freshness: Freshness) -> None:
        self._redis = redis
        self._freshness = freshness
        self._values = Gather(self._get_many)
        # Who joins a deletion joins one that has not begun, so it is later than his commit.
        self._deletions = Batches(self._delete_all, most=1000)

    def of(self, kind: Kind) -> "CachedReads":
        return CachedReads(self, kind)

    async def ping(self) -> None:
        """Fails too if Redis is full or read-only: then it answers, but is no help to anyone."""
        try:
            await self._redis.call(lambda redis: redis.set(_PROBE_KEY, 1, px=_PROBE_MS))
        except RedisDown as error:
            raise Unavailable("Redis does not take a value") from error

    def may_use(self, key: str) -> bool:
        return self._freshness.allows(key)

    async def value(self, key: str) -> bytes | None:
        return await self._values.get(key)

    async def _get_many(self, keys: list[str]) -> dict[str, bytes]:
        values: list[Any] = await self._redis.call(lambda redis: redis.mget(keys))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def take_leases(self, keys: Sequence[str]) -> tuple[str, list[int]]:
        """A token, and for each key 1 if its lease holds the token now."""
        token = secrets.token_hex(8)
        leases = [_lease(key) for key in keys]

        async def run(redis: Redis) -> Any:
            return await redis.eval(_LEASE, len(keys), *leases, token, _LEASE_MS)

        return token, await self._redis.call(run)

    async def fill(self, values: Mapping[str, bytes | None], token: str, ttl: int) -> None:
        """Those whose lease the token still holds."""
        keys = [name for key in values for name in (key, _lease(key))]

        async def run(redis: Redis) -> None:
            found = (value or b"" for value in values.values())
            await redis.eval(_FILL, len(keys), *keys, token, ttl, *found)

        await self._redis.call(run)

    async def delete(self, keys: Sequence[str]) -> bool:
        """True when Redis has confirmed that neither value nor lease is left."""
        return await self._deletions.submit(keys)

    async def _delete_all(self, wanted: Sequence[Sequence[str]]) -> Sequence[bool]:
        keys = {key for some in wanted for key in some}
        try:
            await self._redis.call(lambda redis: redis.delete(*keys, *map(_lease, keys)))
        except RedisDown:
            CACHE_INVALIDATIONS.labels("unconfirmed").inc(len(wanted))
            return [False] * len(wanted)
        CACHE_INVALIDATIONS.labels("confirmed").inc(len(wanted))
        return [True] * len(wanted)

    async def delete_and_lease(self, keys: Sequence[str]) -> str:
        """A token that all their leases hold, whoever had them."""
        token = secrets.token_hex(8)

        async def run(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as pipe:
                pipe.delete(*keys)
                for key in keys:
                    pipe.set(_lease(key), token, px=_LEASE_MS)
                await pipe.execute()

        await self._redis.call(run)
        CACHE_INVALIDATIONS.labels("confirmed").inc(len(keys))
        return token

    async def close(self) -> None:
        await self._redis.close()


class CachedReads:
    """The cache-aside reads of one kind."""

    def __init__(self, cache: Cache, kind: Kind) -> None:
        self._cache = cache
        self._kind = kind
        self._rows = Gather(self._select)
        self._misses = Gather(self._load_and_fill)
        self._refreshes = Batches(self._refresh_all, most=100)
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
        """The rows whose leases are free. Gather lets nobody join once this has begun."""
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
