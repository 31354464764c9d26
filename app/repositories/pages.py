"""A page of a table, and how many rows all its pages have: one statement, so one snapshot."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import Base

# OFFSET walks over what it skips: so over the ids in an index, from the nearer end, and only the
# page's own rows are fetched. As an array: the planner would take a join for a large one.
_PAGE = """
WITH total AS MATERIALIZED (
    {total}
), ids AS (
    (SELECT id FROM {table} WHERE {condition} AND (SELECT :offset <= n / 2 FROM total)
    ORDER BY id LIMIT :limit OFFSET :offset)
    UNION ALL
    (SELECT id FROM {table} WHERE {condition} AND (SELECT :offset > n / 2 FROM total)
    ORDER BY id DESC LIMIT (SELECT greatest(0, least(:limit, n - :offset)) FROM total)
    OFFSET (SELECT greatest(0, n - :offset - :limit) FROM total))
)
SELECT n AS total, page.*
FROM total LEFT JOIN {table} page ON page.id = ANY (ARRAY (SELECT id FROM ids))
ORDER BY page.id
"""

# Of a whole table `count(*)` would read a whole index.
_KEPT_TOTAL = (
    "SELECT coalesce(sum(rows), 0)::bigint AS n FROM row_counts WHERE table_name = '{table}'"
)
_TOTAL = "SELECT count(*) AS n FROM {table} WHERE {condition}"


class Page(NamedTuple):
    rows: Sequence[Row[Any]]
    total: int


@cache
def _statement(table: str, filters: tuple[str, ...]) -> TextClause:
    condition = " AND ".join(f"{name} = :{name}" for name in filters) or "true"
    total = (_TOTAL if filters else _KEPT_TOTAL).format(table=table, condition=condition)
    return text(_PAGE.format(table=table, condition=condition, total=total))


async def page_of(
    connection: AsyncConnection,
    model: type[Base],
    filters: Mapping[str, Any],
    limit: int,
    offset: int,
) -> Page:
    """In the order of the ids. `filters` are columns and their values; without any, `model` must be
    one of those that `RowCount` keeps the totals of."""
    statement = _statement(model.__tablename__, tuple(filters))
    found = await connection.execute(statement, {**filters, "limit": limit, "offset": offset})
    rows = found.all()
    return Page([row for row in rows if row.id is not None], rows[0].total)
