"""A store of cached values without a database."""

from collections.abc import Sequence

from app.cache.current import CurrentRedis
from app.cache.guard import CacheServers, Guard
from app.cache.store import CacheStore, key_prefixes
from app.repositories.cache_servers import Standing
from app.server_addresses import RedisAddress


class Row(CacheServers):
    """The row of `cache_server`, in memory."""

    def __init__(self) -> None:  # pylint: disable=super-init-not-called
        self.standing: Standing | None = None

    async def find(self) -> Standing | None:
        return self.standing

    async def propose(self, identity: str, generation: int) -> int | None:
        if generation != (self.standing.generation if self.standing else 0):
            return None
        self.standing = Standing(generation + 1, identity, None)
        return generation + 1

    async def confirm(self, generation: int, purged: Sequence[str]) -> Standing | None:
        if self.standing is None or self.standing.generation != generation:
            return None
        self.standing = self.standing._replace(purged=purged)
        return self.standing


def lone_store(
    address: RedisAddress, *names: str, row: Row | None = None, current: CurrentRedis | None = None
) -> CacheStore:
    """The store of a process that shares its Redis with those that know the same row."""
    prefixes = key_prefixes(address, names)
    current = current or CurrentRedis(prefixes)
    return CacheStore(address, Guard(address, prefixes, current, row or Row()))
