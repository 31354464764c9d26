from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, Text, bindparam, insert, select, text, true
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningDelete, ReturningUpdate

from app.models.messages import CacheInvalidation, CacheServer
from app.repositories.cache_servers import Standing

# An array: for any number of keys it is the same statement, prepared once on each connection.
# Which Redis counts is read in the same snapshot, for the writer that will delete the keys there.
_ADD = text("""
WITH added AS (
    INSERT INTO cache_invalidations (key) SELECT unnest(CAST(:keys AS text[])) RETURNING id
)
SELECT added.id, server.generation, server.identity, server.purged
FROM added LEFT JOIN cache_server server ON true
""")
# Asked ten times a second. A row comes back without any invalidation too.
_PENDING = text("""
SELECT server.generation, server.identity, server.purged, pending.id, pending.key, pending.age
FROM (SELECT) AS once
LEFT JOIN cache_server server ON true
LEFT JOIN LATERAL (
    SELECT id, key, extract(epoch FROM clock_timestamp() - created_at)::float8 AS age
    FROM cache_invalidations ORDER BY id LIMIT :most
) pending ON true
ORDER BY pending.id
""")
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


class Announced(NamedTuple):
    """What the change of a row said of its key: the row of `cache_invalidations`, and which Redis
    counted at `looked_at`, a moment before."""

    key: str
    id: int
    standing: Standing | None
    looked_at: float


def announcing(change: ReturningUpdate[Any] | ReturningDelete[Any]) -> Select[Any]:
    """The rows of `change`, one at the most, with the row of `cache_invalidations` that makes the
    key `:stale` stale. That one's id is drawn when the change holds its lock, as those of `add`."""
    changed = change.cte("changed")
    stale = select(bindparam("stale", type_=Text)).select_from(changed)
    row = insert(CacheInvalidation).from_select(["key"], stale)
    added = row.returning(CacheInvalidation.id.label("invalidation_id")).cte("added")
    server = CacheServer.__table__
    found = changed.join(added, true()).outerjoin(server, true())
    return select(changed, added, *(server.c[name] for name in Standing._fields)).select_from(found)


def announced_by(row: Row[Any], key: str, looked_at: float) -> Announced:
    """`row` is of an `announcing` statement, which began after `looked_at`."""
    return Announced(key, row.invalidation_id, _standing([row]), looked_at)


class InvalidationRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, keys: Sequence[str]) -> tuple[Sequence[int], Standing | None]:
        """The new rows' ids, and which Redis counts."""
        rows = (await self._connection.execute(_ADD, {"keys": keys})).all()
        return [row.id for row in rows], _standing(rows)

    async def pending(self, limit: int) -> tuple[Sequence[Pending], Standing | None]:
        """Oldest first, and which Redis counts."""
        rows = (await self._connection.execute(_PENDING, {"most": limit})).all()
        found = [Pending(row.id, row.key, row.age) for row in rows if row.id is not None]
        return found, _standing(rows)

    async def forget(self, ids: Sequence[int]) -> None:
        await self._connection.execute(_FORGET, {"ids": ids})

    async def compact(self) -> None:
        """While Redis stays away: keep the newest row of each key."""
        await self._connection.execute(_COMPACT)


def _standing(rows: Sequence[Row[Any]]) -> Standing | None:
    first = rows[0]
    if first.generation is None:
        return None
    return Standing(first.generation, first.identity, first.purged)
