"""The service with the usual cache-aside in place of the protocol: GET, else SELECT and SET; a user
is deleted from the cache after its change, a product is set; what Redis does not answer is ignored.

The race test must find its stale reads: `python -m tests.faults.naive serve`."""

import sys
from collections.abc import Awaitable, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis

from app import cli, container
from app.cache.invalidation import Freshness
from app.cache.reads import CachedEntity
from app.errors import Unavailable
from app.metrics import CACHE_READS

_LIMIT = 0.05


class NaiveRedis:
    """The same short limits, but neither a breaker nor the run-id guard."""

    def __init__(self, url: str) -> None:
        self.client: Redis = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url,
                timeout=_LIMIT,
                max_connections=16,
                socket_timeout=_LIMIT,
                socket_connect_timeout=_LIMIT,
            )
        )


class NaiveCache:
    def __init__(self, redis: NaiveRedis, _: Freshness) -> None:
        self.client = redis.client

    async def attempt(self, operation: Awaitable[Any]) -> Any:
        try:
            return await operation
        except Exception:  # uvloop raises RuntimeError on a connection that was reset
            return None

    async def ping(self) -> None:
        if not await self.attempt(self.client.ping()):
            raise Unavailable("Redis does not answer")

    async def delete(self, keys: Sequence[str]) -> bool:
        await self.attempt(self.client.delete(*keys))
        return True

    async def close(self) -> None:
        await self.client.aclose()
        await self.client.connection_pool.disconnect()


class NaiveReads:
    def __init__(self, cache: NaiveCache, kind: CachedEntity) -> None:
        self._cache = cache
        self._kind = kind

    def key(self, identity: int) -> str:
        return self._kind.key(identity)

    async def read(self, identity: int) -> bytes | None:
        value: bytes | None = await self._cache.attempt(self._cache.client.get(self.key(identity)))
        CACHE_READS.labels(self._kind.name, "miss" if value is None else "hit").inc()
        return value or await self._load_and_set(identity)

    async def _load_and_set(self, identity: int) -> bytes | None:
        value = (await self._kind.load([identity])).get(identity)
        if value is not None:
            setting = self._cache.client.set(self.key(identity), value, ex=self._kind.ttl)
            await self._cache.attempt(setting)
        return value

    async def refresh(self, identity: int) -> bool:
        await self._load_and_set(identity)
        return True


class NoRelay:
    def __init__(self, *_: Any) -> None:
        pass

    async def step(self) -> None:
        pass


def main() -> None:
    for name, substitute in [
        ("CacheRedis", NaiveRedis),
        ("Cache", NaiveCache),
        ("ReadThroughCache", NaiveReads),
        ("InvalidationRelay", NoRelay),
    ]:
        setattr(container, name, substitute)
    cli.main(sys.argv[1:])


if __name__ == "__main__":
    main()
