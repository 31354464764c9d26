"""Deletes what is only needed for a while, the oldest first and a batch at a time.

One statement for all that is due would take longer than any limit once it is behind."""

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

BATCH = 5_000

# SKIP LOCKED: another process may be doing the same, and nobody waits for either.
_DELETE = """
WITH gone AS (
    DELETE FROM {table} WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {table} WHERE {due} ORDER BY {age} LIMIT :most FOR UPDATE SKIP LOCKED
    )) RETURNING 1
)
SELECT count(*) = :most FROM gone
"""
# A message that was dead, and sent again, may have been applied long after it was first seen.
_FORGET_MESSAGES = text(
    _DELETE.format(
        table="messages",
        age="first_seen_at",
        due="first_seen_at < now() - CAST(:kept AS interval) "
        "AND coalesce(finished_at, first_seen_at) < now() - CAST(:kept AS interval)",
    )
)
_FORGET_KEYS = text(
    _DELETE.format(
        table="idempotency_keys",
        age="created_at",
        due="created_at < now() - CAST(:kept AS interval)",
    )
)
# The ledger still adds up to the stock. Movements are in the order of their ids, near enough, so
# the oldest are found without an index of their times.
_FOLD_MOVEMENTS = text("""
WITH batch AS MATERIALIZED (
    SELECT id, reason, created_at < now() - CAST(:kept AS interval) AS due FROM stock_movements
    WHERE id > :after ORDER BY id LIMIT :most
), gone AS (
    DELETE FROM stock_movements m USING batch b
    WHERE m.id = b.id AND b.due AND b.reason <> 'opening'
    RETURNING m.product_id, m.quantity
), sums AS MATERIALIZED (
    SELECT product_id, sum(quantity)::bigint AS quantity FROM gone GROUP BY product_id
), openings AS MATERIALIZED (
    SELECT product_id, min(id) AS id FROM stock_movements
    WHERE reason = 'opening' AND product_id IN (SELECT product_id FROM sums) GROUP BY product_id
), raised AS (
    UPDATE stock_movements m SET quantity = m.quantity + s.quantity
    FROM sums s JOIN openings o USING (product_id) WHERE m.id = o.id
), added AS (
    INSERT INTO stock_movements (product_id, reason, quantity)
    SELECT product_id, 'opening', quantity FROM sums
    WHERE product_id NOT IN (SELECT product_id FROM openings)
)
SELECT max(id) AS last, count(*) = :most AND bool_and(due) AS more FROM batch
""")


class Folded(NamedTuple):
    """`more` says that there may be more after the movement `last`."""

    last: int | None
    more: bool


class RetentionRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def forget_keys(self, kept: timedelta) -> bool:
        """True if there may be more that is older than `kept`."""
        return await self._forget(_FORGET_KEYS, kept)

    async def forget_messages(self, kept: timedelta) -> bool:
        """True if there may be more that is older than `kept`."""
        return await self._forget(_FORGET_MESSAGES, kept)

    async def _forget(self, statement: TextClause, kept: timedelta) -> bool:
        return bool(await self._connection.scalar(statement, {"kept": kept, "most": BATCH}))

    async def fold_movements(self, kept: timedelta, after: int) -> Folded:
        """Add the movements of a batch that are older than `kept` to the openings of their
        products."""
        arguments = {"kept": kept, "after": after, "most": BATCH}
        return Folded(*(await self._connection.execute(_FOLD_MOVEMENTS, arguments)).one())
