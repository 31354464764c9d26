from collections.abc import Sequence

from sqlalchemy import Double, bindparam, cast, exists, extract, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from app.models import CacheInvalidation

# Arrays: whatever their length, it is the same statement, which is prepared once a connection.
_ADD = text(
    "INSERT INTO cache_invalidations (key) SELECT unnest(CAST(:keys AS text[])) RETURNING id"
)
# Asked ten times a second: built once, it need not be compared with what is compiled.
_AGE = extract("epoch", func.clock_timestamp() - CacheInvalidation.created_at)
_PENDING = (
    select(CacheInvalidation.id, CacheInvalidation.key, cast(_AGE, Double))
    .order_by(CacheInvalidation.id)
    .limit(bindparam("most"))
)
# A row that comes back after a crash only costs one more deletion in Redis.
_FORGET = text(
    "DELETE FROM cache_invalidations WHERE id = ANY (CAST(:ids AS bigint[])) "
    "RETURNING set_config('synchronous_commit', 'off', true)"
)
# Of one statement, so that it ends in time.
_MOST_THINNED_OUT = 10_000


class InvalidationRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, keys: Sequence[str]) -> Sequence[int]:
        return (await self._connection.scalars(_ADD, {"keys": keys})).all()

    async def pending(self, limit: int) -> Sequence[tuple[int, str, float]]:
        """Id, key and age in seconds, oldest first."""
        return (await self._connection.execute(_PENDING, {"most": limit})).all()

    async def forget(self, ids: Sequence[int]) -> None:
        await self._connection.execute(_FORGET, {"ids": ids})

    async def compact(self) -> None:
        """One row for a key is enough, however long Redis stays away: the last one, for whoever
        changes a key draws its row's number while all others must wait for the change."""
        newer = aliased(CacheInvalidation)
        has_newer = exists().where(
            newer.key == CacheInvalidation.key, newer.id > CacheInvalidation.id
        )
        superfluous = (
            select(CacheInvalidation.id)
            .where(has_newer)
            .limit(_MOST_THINNED_OUT)
            .with_for_update(skip_locked=True)  # another process may be at it
        )
        await self.forget((await self._connection.scalars(superfluous)).all())
