"""The kept totals: when they can be trusted, and how they become right again."""

from collections.abc import Iterable

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.base import Base, Counted
from app.repositories.long_statements import LONG

_TRIGGERS = ("count_inserted", "count_deleted", "count_truncated")
# pg_restore --disable-triggers, and whoever else turns triggers off and on again, leaves ours
# enabled, but not enabled always.
_TRUSTED = f"""(
    SELECT count(*) = {len(_TRIGGERS)} FROM pg_trigger
    WHERE tgrelid = '{{table}}'::regclass AND tgname IN {_TRIGGERS} AND tgenabled = 'A'
) AND EXISTS (SELECT FROM row_counts WHERE table_name = '{{table}}' AND slot = -1)"""

# `count(*)` of a whole table would read a whole index, so it is for totals that cannot be trusted.
_TOTAL = f"""SELECT CASE WHEN {_TRUSTED}
    THEN (SELECT coalesce(sum(rows), 0) FROM row_counts WHERE table_name = '{{table}}')::bigint
    ELSE (SELECT count(*) FROM {{table}})
END AS n"""

# Both numbers are from one snapshot, so what others add and remove meanwhile is in both or neither.
_RECOUNT = """
WITH missing AS (
    SELECT (SELECT count(*) FROM {table}) - (
        SELECT coalesce(sum(rows), 0) FROM row_counts WHERE table_name = '{table}'
    ) AS rows
), written AS (
    INSERT INTO row_counts SELECT '{table}', -1, rows FROM missing
    ON CONFLICT (table_name, slot) DO UPDATE SET rows = row_counts.rows + excluded.rows
    WHERE excluded.rows <> 0
)
SELECT rows::bigint FROM missing
"""
# An advisory lock: any constant that nothing else uses in this database.
_RECOUNT_LOCK = 7_105_328


def kept_total(table: str) -> str:
    """The query for the number of rows, called `n`: kept by triggers, or counted."""
    return _TOTAL.format(table=table)


def _for(statement: str, table: str) -> TextClause:
    return text(statement.format(table=table))


class RowCountRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    @staticmethod
    def tables() -> Iterable[str]:
        mappers = Base.registry.mappers
        return sorted(str(m.local_table) for m in mappers if issubclass(m.class_, Counted))

    async def is_trusted(self, table: str) -> bool:
        return bool(await self._connection.scalar(_for(f"SELECT {_TRUSTED}", table)))

    async def trust(self, table: str) -> None:
        """Enable the triggers always. Locks the table against writers until the commit, so that all
        rows of those who wrote without triggers are there for a recount. For the table's owner."""
        always = ", ".join(f"ENABLE ALWAYS TRIGGER {trigger}" for trigger in _TRIGGERS)
        await self._connection.execute(_for(f"ALTER TABLE {{table}} {always}", table))

    async def recount(self, table: str) -> int:
        """Make the kept total the number of rows; by how many it was too small."""
        await self._connection.execute(LONG)
        # Two that recount at once would both add what is missing.
        await self._connection.execute(text(f"SELECT pg_advisory_xact_lock({_RECOUNT_LOCK})"))
        return int((await self._connection.scalars(_for(_RECOUNT, table))).one())
