"""The commands of the cache: see cached_reads.py for what they make together."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from app.cache.invalidation import Freshness
from app.cache.redis import CacheRedis, RedisDown
from app.errors import Unavailable
from app.metrics import CACHE_INVALIDATIONS
from app.runtime.data_loader import DataLoader
from app.runtime.micro_batcher import MicroBatcher

_LEASE_MS = 3000
_PROBE_KEY = "cache:probe"
_PROBE_MS = 1000
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


def _lease(key: str) -> str:
    return f"lease:{key}"


class Cache:
    def __init__(self, redis: CacheRedis, freshness: Freshness) -> None:
        self._redis = redis
        self._freshness = freshness
        self._values = DataLoader(self._get_many)
        # Who joins a deletion joins one that has not begun, so it is later than his commit.
        self._deletions = MicroBatcher(self._delete_all, most=1000)

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
