"""The service with plain cache-aside instead of our protocol: GET, else SELECT and SET. After a
change a user is deleted from the cache and a product is set; errors of Redis are ignored.

The race test must find its stale reads. Run it with `python -m tests.faults.naive serve`."""

import sys
from collections.abc import Awaitable, Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis

from app import cli
from app.cache import caches
from app.cache.entities import CachedEntity
from app.database import Database
from app.errors import NotFound, Unavailable
from app.metrics import CACHE_READS
from app.redis_connections import connection_options
from app.server_addresses import RedisAddress

_LIMIT = 0.05


class NaiveStore:
    """The same short time limits, but no breaker and no guard."""

    def __init__(self, address: RedisAddress, _: Any) -> None:
        self.client: Redis = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                **connection_options(address),
                timeout=_LIMIT,
                max_connections=16,
                socket_timeout=_LIMIT,
                socket_connect_timeout=_LIMIT,
            )
        )

    async def attempt(self, operation: Awaitable[Any]) -> Any:
        try:
            return await operation
        except Exception:  # uvloop raises RuntimeError for a connection that was reset
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
    def __init__(
        self, entity: CachedEntity, store: NaiveStore, _trust: Any, database: Database
    ) -> None:
        self._entity = entity
        self._store = store
        self._database = database

    def peek(self, _: int) -> None:
        """Every read is resolved by a task."""

    def past_redis(self, *_: Any) -> None:
        """So is this."""

    async def read(self, identity: int) -> bytes:
        return await self.resolve(identity)

    async def resolve(self, identity: int, *_: None) -> bytes:
        reading = self._store.client.get(self._entity.key(identity))
        value: bytes | None = await self._store.attempt(reading)
        CACHE_READS.labels(self._entity.name, "miss" if value is None else "hit").inc()
        value = value or await self._load_and_set(identity)
        if value is None:
            raise NotFound(self._entity.name, identity)
        return value

    async def _load_and_set(self, identity: int) -> bytes | None:
        value = (await self._entity.load(self._database, [identity])).get(identity)
        if value is not None:
            key, ttl = self._entity.key(identity), self._entity.ttl
            await self._store.attempt(self._store.client.set(key, value, ex=ttl))
        return value

    async def refresh(self, identity: int) -> bool:
        await self._load_and_set(identity)
        return True


class NoInvalidator:
    def __init__(self, *_: Any) -> None:
        pass

    async def tick(self) -> None:
        pass


def main() -> None:
    for name, substitute in [
        ("CacheStore", NaiveStore),
        ("ReadThroughCache", NaiveReads),
        ("Invalidator", NoInvalidator),
    ]:
        setattr(caches, name, substitute)
    cli.main(sys.argv[1:])


if __name__ == "__main__":
    main()
