"""A page of a list and the list's total, in one statement, so from one snapshot."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar, cast

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.base import Base, Counted
from app.repositories.cursors import cursor_of, place_of
from app.repositories.row_counts import kept_total
from app.schemas.pages import PageRequest

# The ids are an array, because the planner would join a subquery.
_PAGE = """
WITH total AS MATERIALIZED (
    {total}
), ids AS (
    {ids}
)
SELECT n AS total, {columns}
FROM total LEFT JOIN {table} page ON page.id = ANY (ARRAY (SELECT id FROM ids))
ORDER BY page.id
"""
# OFFSET reads all that it skips. So it skips ids in an index, from the nearer end, and only the
# page's own rows are fetched.
_BY_NUMBER = """
    (SELECT id FROM {table} WHERE {condition} AND (SELECT :offset <= n / 2 FROM total)
    ORDER BY id LIMIT :limit OFFSET :offset)
    UNION ALL
    (SELECT id FROM {table} WHERE {condition} AND (SELECT :offset > n / 2 FROM total)
    ORDER BY id DESC LIMIT (SELECT greatest(0, least(:limit, n - :offset)) FROM total)
    OFFSET (SELECT greatest(0, n - :offset - :limit) FROM total))
"""
# The limit is in a subquery, because the planner would plan each execution anew for a number: that
# takes longer than to read the page.
_BY_CURSOR = """
    SELECT id FROM {table} WHERE {condition} AND id > :after
    ORDER BY id LIMIT (SELECT CAST(:limit AS bigint))
"""

_TOTAL = "SELECT count(*) AS n FROM {table} WHERE {condition}"


M = TypeVar("M", bound=Base)


class Page(NamedTuple, Generic[M]):
    """`total` counts the rows on all pages. `next` is the cursor of the next page, if there is
    one."""

    rows: Sequence[M]
    total: int
    next: str | None


@cache
def _statement(model: type[Base], filters: tuple[str, ...], ids: str) -> TextClause:
    table = model.__tablename__
    # By name: with `*`, a column that somebody adds makes prepared statements invalid.
    columns = ", ".join(f"page.{column.name}" for column in model.__table__.columns)
    condition = " AND ".join(f"{name} = :{name}" for name in filters) or "true"
    total = _TOTAL.format(table=table, condition=condition) if filters else kept_total(table)
    ids = ids.format(table=table, condition=condition)
    return text(_PAGE.format(table=table, columns=columns, ids=ids, total=total))


async def page_of(
    connection: AsyncConnection,
    model: type[M],
    filters: Mapping[str, Any],
    wanted: PageRequest,
) -> Page[M]:
    """In the order of the ids. `filters` are columns and their values. A reader that follows `next`
    gets every row that is there all the time, whatever is added and deleted meanwhile.

    Raises BadCursor, and LookupError if there are no filters and nobody keeps the table's total."""
    table = model.__tablename__
    if not filters and not issubclass(model, Counted):
        raise LookupError(
            f"nobody counts the rows of {table}: filter them, or let a migration add the triggers "
            "of `row_counts` to the table and derive its model from Counted"
        )
    # The cursor is of this order; one more row tells whether there is a next page.
    scope = json.dumps([table, filters, "id"])
    arguments = {**filters, "limit": wanted.count + 1}
    if wanted.after is None:
        ids, arguments["offset"] = _BY_NUMBER, wanted.offset
    else:
        ids, (arguments["after"],) = _BY_CURSOR, place_of(scope, wanted.after)
    rows = (await connection.execute(_statement(model, tuple(filters), ids), arguments)).all()
    found = [row for row in rows if row.id is not None][: wanted.count]
    following = cursor_of(scope, (found[-1].id,)) if len(rows) > wanted.count else None
    return Page(cast(Sequence[M], found), rows[0].total, following)
