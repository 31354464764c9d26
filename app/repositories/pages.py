"""A page of a list and the list's total, in one statement, so from one snapshot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar, cast

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.base import Base, Counted
from app.repositories.cursors import ID, Key, beyond, cursor_of, ordered, place_arguments
from app.repositories.row_counts import kept_total
from app.schemas.pages import PageRequest

# The ids are an array, because the planner would join a subquery.
_PAGE = """
WITH total AS MATERIALIZED (
    {total}
), ids AS (
    {ids}
)
SELECT n AS total, {columns}, {place}
FROM total LEFT JOIN {table} page ON page.id = ANY (ARRAY (SELECT id FROM ids))
ORDER BY {order}
"""
# OFFSET reads all that it skips. So it skips ids in an index, from the nearer end, and only the
# page's own rows are fetched.
_BY_NUMBER = """
    (SELECT id FROM {table} WHERE {condition} AND (SELECT :offset <= n / 2 FROM total)
    ORDER BY {order} LIMIT :limit OFFSET :offset)
    UNION ALL
    (SELECT id FROM {table} WHERE {condition} AND (SELECT :offset > n / 2 FROM total)
    ORDER BY {reverse} LIMIT (SELECT greatest(0, least(:limit, n - :offset)) FROM total)
    OFFSET (SELECT greatest(0, n - :offset - :limit) FROM total))
"""
# The limit is in a subquery, because the planner would plan each execution anew for a number: that
# takes longer than to read the page.
_BY_CURSOR = """
    SELECT id FROM {table} WHERE {condition} AND {beyond}
    ORDER BY {order} LIMIT (SELECT CAST(:limit AS bigint))
"""

_TOTAL = "SELECT count(*) AS n FROM {table} WHERE {condition}"


M = TypeVar("M", bound=Base)


class Filter(NamedTuple):
    """`condition` is SQL, in which `:name` is the filter's value; it must use an index when nothing
    is known of the value, as LIKE would not. `sort` is what that index has its rows sorted by."""

    condition: str
    sort: str | None = None


class Page(NamedTuple, Generic[M]):
    """`total` counts the rows on all pages. `next` is the cursor of the next page, if there is
    one."""

    rows: Sequence[M]
    total: int
    next: str | None


@dataclass(frozen=True)
class Listing(Generic[M]):
    """What may be asked of the list of a table, and what it may be ordered by beside the id."""

    model: type[M]
    filters: Mapping[str, Filter]
    sorts: Mapping[str, Key]

    async def page(
        self, connection: AsyncConnection, given: Mapping[str, Any], wanted: PageRequest
    ) -> Page[M]:
        """`given` are values of filters; None is no filter. A reader that follows `next` gets every
        row that is there all the time, whatever is added and deleted meanwhile.

        Raises BadCursor, and LookupError if there are no filters and nobody keeps the table's
        total."""
        given = {name: value for name, value in given.items() if value is not None}
        table = self.model.__tablename__
        if not given and not issubclass(self.model, Counted):
            raise LookupError(
                f"nobody counts the rows of {table}: filter them, or let a migration add the "
                "triggers of `row_counts` to the table and derive its model from Counted"
            )
        keys = self._keys(wanted)
        # The cursor is of this order; one more row tells whether there is a next page.
        scope = json.dumps([table, given, wanted.sort], default=str)
        arguments = {**given, "limit": wanted.count + 1}
        if wanted.after is None:
            arguments["offset"] = wanted.offset
        else:
            arguments |= place_arguments(scope, wanted.after, keys)
        filters = tuple(self.filters[name] for name in given)
        query = _statement(
            self.model,
            tuple(filter.condition for filter in filters),
            keys,
            _order_of(filters, wanted.sorted_by, keys),
            wanted.is_reversed,
            wanted.after is not None,
        )
        rows = (await connection.execute(query, arguments)).all()
        found = [row for row in rows if row.id is not None][: wanted.count]
        following = None
        if len(rows) > wanted.count:
            last: Any = found[-1]
            place = tuple(getattr(last, f"place_{n}") for n in range(len(keys)))
            following = cursor_of(scope, place)
        return Page(cast(Sequence[M], found), rows[0].total, following)

    def _keys(self, wanted: PageRequest) -> tuple[Key, ...]:
        return (ID,) if wanted.sorted_by == "id" else (self.sorts[wanted.sorted_by], ID)


def _order_of(filters: Sequence[Filter], sort: str, keys: tuple[Key, ...]) -> tuple[Key, ...]:
    """What to sort by. The rows that fit are sorted, unless the index that finds them has them in
    order: from a LIMIT the planner would conclude that walking through the index of the order finds
    enough of them soon, and for a filter that few rows fit it reads the whole table so."""
    if not filters or sort in {filter.sort for filter in filters}:
        return keys
    first, *others = keys
    return first._replace(sql=f"greatest({first.sql}, NULL)"), *others  # no index has that


@cache
def _statement(
    model: type[Base],
    conditions: tuple[str, ...],
    keys: tuple[Key, ...],
    order_keys: tuple[Key, ...],
    is_reversed: bool,
    by_cursor: bool,
) -> TextClause:
    table = model.__tablename__
    condition = " AND ".join(conditions) or "true"
    total = _TOTAL.format(table=table, condition=condition) if conditions else kept_total(table)
    order = ordered(order_keys, is_reversed=is_reversed)
    ids = (_BY_CURSOR if by_cursor else _BY_NUMBER).format(
        table=table,
        condition=condition,
        order=order,
        reverse=ordered(order_keys, is_reversed=not is_reversed),
        beyond=beyond(keys, is_reversed=is_reversed),
    )
    # By name: with `*`, a column that somebody adds makes prepared statements invalid.
    columns = ", ".join(f"page.{column.name}" for column in model.__table__.columns)
    place = ", ".join(f"{key.sql} AS place_{n}" for n, key in enumerate(keys))
    return text(
        _PAGE.format(table=table, columns=columns, place=place, ids=ids, total=total, order=order)
    )
