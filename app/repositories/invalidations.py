from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Double, bindparam, cast, extract, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.messages import CacheInvalidation

# An array: for any number of keys it is the same statement, prepared once on each connection.
_ADD = text(
    "INSERT INTO cache_invalidations (key) SELECT unnest(CAST(:keys AS text[])) RETURNING id"
)
# Asked ten times a second, so it is built once.
_AGE = extract("epoch", func.clock_timestamp() - CacheInvalidation.created_at)
_PENDING = (
    select(CacheInvalidation.id, CacheInvalidation.key, cast(_AGE, Double))
    .order_by(CacheInvalidation.id)
    .limit(bindparam("most"))
)
# Not synchronous: a row that comes back after a crash costs one more deletion in Redis, no more.
_FORGET = text(
    "DELETE FROM cache_invalidations WHERE id = ANY (CAST(:ids AS bigint[])) "
    "RETURNING set_config('synchronous_commit', 'off', true)"
)
# The newest row of a key is enough: a writer draws the row's id while it holds the lock on what it
# changes, so the ids of one key are in the order of the commits. Limited, so that the statement
# ends in time; SKIP LOCKED, because another process may be doing the same.
_COMPACT = text("""
DELETE FROM cache_invalidations WHERE id = ANY (ARRAY (
    SELECT o.id FROM cache_invalidations o
    WHERE EXISTS (SELECT FROM cache_invalidations n WHERE n.key = o.key AND n.id > o.id)
    LIMIT 10000 FOR UPDATE SKIP LOCKED
)) RETURNING set_config('synchronous_commit', 'off', true)
""")


class Pending(NamedTuple):
    """`age` is in seconds."""

    id: int
    key: str
    age: float


class InvalidationRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, keys: Sequence[str]) -> Sequence[int]:
        return (await self._connection.scalars(_ADD, {"keys": keys})).all()

    async def pending(self, limit: int) -> Sequence[Pending]:
        """Oldest first."""
        rows = await self._connection.execute(_PENDING, {"most": limit})
        return [Pending(*row) for row in rows.all()]

    async def forget(self, ids: Sequence[int]) -> None:
        await self._connection.execute(_FORGET, {"ids": ids})

    async def compact(self) -> None:
        """While Redis stays away: keep the newest row of each key."""
        await self._connection.execute(_COMPACT)
