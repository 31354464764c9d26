"""All cached entities together: reading them, and what a commit does to them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from app.cache.current import CurrentRedis, windows_closed
from app.cache.entities import CachedEntity
from app.cache.guard import CacheServers, Guard
from app.cache.invalidation import POLL_SECONDS, InvalidationCleaner, Invalidator, Unconfirmed
from app.cache.reads import ReadThroughCache, TrustWindow
from app.cache.store import CacheStore, key_prefixes
from app.database import Database
from app.facts import Fact
from app.repositories.invalidations import Announced, InvalidationRepository
from app.runtime.clock import now
from app.runtime.loops import Loop
from app.server_addresses import RedisAddress


@dataclass
class Invalidation:
    """The keys that one transaction makes stale, and its rows of `cache_invalidations`."""

    deletions: set[str] = field(default_factory=set)
    refreshes: set[tuple[CachedEntity, int]] = field(default_factory=set)
    row_ids: list[int] = field(default_factory=list)

    def keys(self) -> set[str]:
        return self.deletions | {entity.key(id) for entity, id in self.refreshes}


class Caches:
    """`monitoring` has connections of its own: a full pool of requests must not keep the trust
    window from opening, and with it the cache from being used."""

    def __init__(
        self,
        redis: RedisAddress,
        entities: Iterable[CachedEntity],
        database: Database,
        monitoring: Database,
    ) -> None:
        entities = tuple(entities)
        unconfirmed = Unconfirmed(monitoring)
        self.trust = TrustWindow()
        prefixes = key_prefixes(redis, (entity.name for entity in entities))
        self._current = CurrentRedis(prefixes)
        guard = Guard(redis, prefixes, self._current, CacheServers(monitoring))
        self._store = CacheStore(redis, guard)
        self._reads = {
            entity: ReadThroughCache(entity, self._store, self.trust, database)
            for entity in entities
        }
        self._invalidator = Invalidator(self.trust, self._current, unconfirmed, self._store)
        self._cleaner = InvalidationCleaner(unconfirmed)

    def __getitem__(self, entity: CachedEntity) -> ReadThroughCache:
        if entity not in self._reads:
            # Unregistered, its keys would survive a purge, and stale values with them.
            raise LookupError(
                f"{entity.name} is not registered: add it to CACHED_ENTITIES in "
                "app/services/cached_entities.py"
            )
        return self._reads[entity]

    async def announce(
        self,
        connection: AsyncConnection,
        facts: Mapping[Fact, Iterable[int]],
        announced: Sequence[Announced],
    ) -> Invalidation:
        """In the transaction: record the keys that its commit makes stale, but for those that are
        `announced` already."""
        invalidation = Invalidation()
        for fact, ids in facts.items():
            for entity in self._reads:
                if fact in entity.deleted_by:
                    invalidation.deletions.update(map(entity.key, ids))
                elif fact in entity.refreshed_by:
                    invalidation.refreshes.update((entity, id) for id in ids)
        invalidation.row_ids += [row.id for row in announced]
        for row in announced:
            self._current.learn(row.standing, row.looked_at)
        if keys := sorted(invalidation.keys() - {row.key for row in announced}):
            looked_at = now()
            row_ids, standing = await InvalidationRepository(connection).add(keys)
            invalidation.row_ids += row_ids
            self._current.learn(standing, looked_at)
        return invalidation

    async def invalidate(
        self, invalidation: Invalidation, committed_at: float, repeats_recent: bool
    ) -> None:
        """After the commit. Returns when no process can read an older value: at once if Redis
        confirms the deletions, else when all trust windows from before the commit have closed.

        With `repeats_recent` another process has committed the change a moment ago, and nobody
        knows how far its invalidation has come."""
        confirmed = not repeats_recent
        if invalidation.deletions:
            confirmed &= await self._store.delete(sorted(invalidation.deletions))
        for entity, identity in invalidation.refreshes:
            confirmed &= await self._reads[entity].refresh(identity)
        if not confirmed:
            await windows_closed(committed_at)
        elif invalidation.row_ids:
            self._cleaner.add(invalidation.row_ids)

    @property
    def reading_loops(self) -> list[Loop]:
        """For a process that answers reads from the cache."""
        return [(self._invalidator.tick, POLL_SECONDS)]

    @property
    def writing_loops(self) -> list[Loop]:
        """For every process that commits."""
        return [(self._cleaner.tick, 0.01)]

    async def ping(self) -> None:
        """Raises Unavailable unless Redis takes a value."""
        await self._store.ping()

    async def close(self) -> None:
        await self._store.close()
