"""Cache-aside without stale reads.

A value enters the cache in one way only: filled under a lease, from a database read that began
after the lease was granted. A write deletes value and lease together, so a reader that loaded the
old row can no longer fill. While a deletion is not confirmed by Redis, `Freshness` makes every
process read that key from the database. docs/cache.md has the whole argument.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis

from app.errors import Unavailable
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
# An empty value: the row does not exist.
_FILL = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end
redis.call('DEL', KEYS[2])
return 1
"""


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

    async def take_lease(self, key: str) -> str | None:
        token = secrets.token_hex(8)
        granted = await self._redis.call(
            lambda redis: redis.set(f"lease:{key}", token, nx=True, px=_LEASE_MS)
        )
        return token if granted else None

    async def fill(self, key: str, token: str, value: bytes | None, ttl: int) -> None:
        async def run(redis: Redis) -> None:
            await redis.eval(_FILL, 2, key, f"lease:{key}", token, value or b"", ttl)

        await self._redis.call(run)

    async def delete(self, keys: Sequence[str]) -> bool:
        """True when Redis has confirmed that neither value nor lease is left."""
        try:
            await self._redis.call(
                lambda redis: redis.delete(*keys, *(f"lease:{key}" for key in keys))
            )
        except RedisDown:
            CACHE_INVALIDATIONS.labels("unconfirmed").inc()
            return False
        CACHE_INVALIDATIONS.labels("confirmed").inc()
        return True

    async def delete_and_lease(self, key: str) -> str:
        token = secrets.token_hex(8)

        async def run(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as pipe:
                pipe.delete(key)
                pipe.set(f"lease:{key}", token, px=_LEASE_MS)
                await pipe.execute()

        await self._redis.call(run)
        return token

    async def close(self) -> None:
        await self._redis.close()


class CachedReads:
    """The cache-aside reads of one kind."""

    def __init__(self, cache: Cache, kind: Kind) -> None:
        self._cache = cache
        self._kind = kind
        self._rows = Gather(kind.load)
        self._starting: dict[int, asyncio.Task[bytes | None]] = {}
        self._filling: set[int] = set()
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
                value = await self._miss(identity)
            return value
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

    async def _miss(self, identity: int) -> bytes | None:
        """As in Gather, a caller joins only what has not begun."""
        task = self._starting.get(identity)
        if task is None:
            task = self._starting[identity] = asyncio.create_task(self._load_and_fill(identity))
        return await asyncio.shield(task)

    async def _load_and_fill(self, identity: int) -> bytes | None:
        del self._starting[identity]
        if identity in self._filling:  # one of us is enough to ask for the lease
            return await self._wait_for_other(identity)
        self._filling.add(identity)
        try:
            token = await self._cache.take_lease(self.key(identity))
            if token is None:
                return await self._wait_for_other(identity)
            return await self._fill(identity, token)
        finally:
            self._filling.discard(identity)

    async def _fill(self, identity: int, token: str) -> bytes | None:
        key = self.key(identity)
        value = await self._load(identity, "miss")
        try:
            await self._cache.fill(key, token, value, self._kind.ttl)
        except RedisDown:
            log.debug("cache not filled", key=key)
        return value

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
        value = await self._rows.get(identity)
        if self._fields is None and value is not None:
            self._fields = set(msgspec.json.decode(value))
        return value

    async def refresh(self, identity: int) -> bool:
        """After a committed update: put the row as it is now into the cache.

        True when Redis has confirmed that the old value is gone."""
        key = self._kind.key(identity)
        try:
            token = await self._cache.delete_and_lease(key)
        except RedisDown:
            return await self._cache.delete([key])  # a full Redis grants no lease, but deletes
        CACHE_INVALIDATIONS.labels("confirmed").inc()
        try:
            await self._cache.fill(key, token, await self._rows.get(identity), self._kind.ttl)
        except Exception as error:  # the change stands, and the old value is gone
            log.warning("cache not filled", key=key, error=repr(error))
        return True
