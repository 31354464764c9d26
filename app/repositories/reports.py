import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from math import ceil
from typing import Any, NamedTuple, cast

from sqlalchemy import CursorResult, DateTime, Row, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.reports import Installation, ReportRun, ReportRunPart
from app.repositories.long_statements import LONG
from app.schemas.reports import Comparison, ReportFormat

ROWS_PER_MESSAGE = 10_000
ROWS_PER_PAGE = 5_000

# No row leaves the database. The builders of a day wait for each other, so NOT EXISTS is enough: ON
# CONFLICT would look up each row twice.
_ALL = """
FROM orders o JOIN order_items i ON i.order_id = o.id
WHERE o.ordered_at >= :day_begins AND o.ordered_at < :day_ends
"""
_NEW = (
    _ALL + "AND NOT EXISTS (SELECT FROM reports r WHERE r.report_at = :day AND r.order_id = o.id)"
)
_IS_BEGUN = text("SELECT EXISTS (SELECT FROM reports WHERE report_at = :day)")
_DAY = (
    bindparam("day_begins", type_=DateTime(timezone=True)),
    bindparam("day_ends", type_=DateTime(timezone=True)),
)
_BUILD, _BUILD_MORE = (text(f"""
INSERT INTO reports (report_at, order_id, count_product)
SELECT :day, o.id, sum(i.quantity) {orders} GROUP BY o.id ORDER BY o.id
""").bindparams(*_DAY) for orders in (_ALL, _NEW))
_HAS_NEW = text(f"SELECT EXISTS (SELECT {_NEW})").bindparams(*_DAY)
# The run part's new rows are those of the day with this id or a greater one: other days may take
# ids in between. RETURNING would tell the ids too, but keeps all of them in memory.
_FIRST_ID = text("SELECT last_value + is_called::int FROM reports_id_seq")
_CLOSE = text("""
UPDATE report_runs
SET batches = batches + (batches = 0 OR :created > 0)::int,
    closed_at = coalesce(closed_at, CASE WHEN now() >= :day_ends THEN now() END)
WHERE report_date = :day
RETURNING batches
""").bindparams(bindparam("day_ends", type_=DateTime(timezone=True)))

# One message of a run part's next rows, which are those of the day with an id above `after`. Their
# ids are in the order of their orders. The JSON holds numbers and dates: nothing needs escaping.
_ENQUEUE = text("""
WITH next AS (
    SELECT * FROM reports WHERE report_at = :day AND id > :after
    ORDER BY id LIMIT :rows_per_message
), body AS (
    SELECT count(*) AS n, max(id) AS last, string_agg('{"report_id":' || id
        || ',"order_id":' || order_id || ',"count_product":' || count_product
        || CAST(:row_end AS text), ',' ORDER BY id) AS rows
    FROM next
), sent AS (
    INSERT INTO outbox (queue, message_id, headers, body)
    SELECT 'report', :message_id,
        jsonb_build_object('report_date', CAST(:date AS text)) || CAST(:origin AS jsonb),
        concat('{"report_date":"', CAST(:date AS text), '","reports_count":', n, ',"reports":[',
            rows, '],"created_at":"',
            to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '"',
            CAST(:part AS text), '}')
    FROM body
    RETURNING id
)
SELECT sent.id, body.last FROM sent, body
""")
# No statistics tell of rows that were written in this transaction: for each message the planner
# would collect all of the day and sort them. The index of ids has the order.
_NO_SORT = text("SET LOCAL enable_sort = off")

_COMPARE = text("""
WITH wanted AS (
    SELECT o.id, sum(i.quantity) AS quantity FROM orders o JOIN order_items i ON i.order_id = o.id
    WHERE o.ordered_at >= :day_begins AND o.ordered_at < :day_ends GROUP BY o.id
), built AS (
    SELECT order_id, count_product FROM reports WHERE report_at = :day
)
SELECT count(id) AS orders, count(order_id) AS rows,
    count(*) FILTER (WHERE order_id IS NULL) AS missing,
    count(*) FILTER (WHERE id IS NULL) AS surplus,
    count(*) FILTER (WHERE quantity <> count_product) AS wrong
FROM wanted FULL JOIN built ON order_id = id
""").bindparams(*_DAY)

_CREATED_AT = """
replace(to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '.000000', '')
"""
# A `ReportRead`, made where the rows are: nothing in it needs escaping. Each row begins with what
# divides it from the one before, so that pages can follow one another unchanged.
_ROWS = {
    ReportFormat.JSON: f"""
concat(',{{"id":', id, ',"report_at":"', report_at, '","order_id":', order_id,
    ',"count_product":', count_product, ',"created_at":"', {_CREATED_AT}, '"}}')
""",
    ReportFormat.CSV: f"""
concat(E'\\r\\n', id, ',', report_at, ',', order_id, ',', count_product, ',', {_CREATED_AT})
""",
}
_PAGES = {format: text(f"""
WITH page AS (
    SELECT * FROM reports WHERE report_at = :day AND order_id > :after
    ORDER BY order_id LIMIT :limit
)
SELECT coalesce(string_agg({row}, '' ORDER BY order_id), '') AS rows,
    CASE WHEN count(*) = :limit THEN max(order_id) END AS more_after
FROM page
""") for format, row in _ROWS.items()}

# By days and parts: no row of a report is read.
_SUMMARY = text("""
SELECT r.report_date, coalesce(sum(p.orders), 0)::bigint AS orders,
    coalesce(sum(p.units), 0)::bigint AS units, r.closed_at IS NOT NULL AS closed,
    coalesce(max(p.built_at), r.closed_at) AS built_at
FROM report_runs r LEFT JOIN report_run_parts p ON p.report_date = r.report_date
WHERE r.report_date BETWEEN :first AND :last GROUP BY r.report_date
""")

# Orders that a closed run may have missed: those that were dated back when they arrived, and those
# that were committed after the midnight of their day. No report has them yet. Not their days, which
# only the Calendar knows: few quarters of an hour instead of many orders.
_LATE = text("""
WITH arrived AS (
    SELECT id, ordered_at FROM orders WHERE ordered_at < created_at
        AND created_at >= (SELECT late_orders_until FROM installation)
    UNION ALL
    SELECT id, ordered_at FROM orders
    WHERE ordered_at >= (SELECT late_orders_until FROM installation)
)
SELECT DISTINCT date_bin('15 minutes', ordered_at, TIMESTAMPTZ '2000-01-01 00:00Z') FROM arrived
WHERE ordered_at < :before AND NOT EXISTS (SELECT FROM reports r WHERE r.order_id = arrived.id)
""").bindparams(bindparam("before", type_=DateTime(timezone=True)))
# A transaction may be that old when it commits, and clocks may differ.
_LATE_MARGIN = timedelta(hours=1)
_ALL_BUILT = text("""
UPDATE installation SET late_orders_until = greatest(late_orders_until, :looked_at)
""").bindparams(bindparam("looked_at", type_=DateTime(timezone=True)))


# With the part that wrote the row, which has the time of its transaction. A message has up to
# `rows_per_message` of a part's rows; where there are several, the row's place tells which.
_OF_ORDER = text("""
SELECT r.id, r.report_at, r.order_id, r.count_product, r.created_at, p.number AS part,
    ceil(p.orders::numeric / :rows_per_message)::int AS messages,
    CASE WHEN p.orders > :rows_per_message THEN (
        SELECT count(*) FROM reports b
        WHERE b.report_at = r.report_at AND b.order_id <= r.order_id
            AND b.created_at = r.created_at
    ) END AS place
FROM reports r
JOIN report_run_parts p ON p.report_date = r.report_at AND p.built_at = r.created_at
WHERE r.order_id = :order_id ORDER BY r.id LIMIT 1
""")


class RunPart(NamedTuple):
    """What one building of a day added: the day's `number`th part has `created` new rows, with ids
    from `first_id` on."""

    number: int
    created: int
    first_id: int


class ReportPage(NamedTuple):
    """`rows` are JSON objects, each with a comma before it, or lines of CSV, each with a line break
    before it. `more_after` is the `after` of the next page, None at the end."""

    rows: str
    more_after: int | None


class ReportRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def page(self, day: date, after: int, format: ReportFormat) -> ReportPage:
        """The day's rows of orders with an id above `after`."""
        arguments = {"day": day, "after": after, "limit": ROWS_PER_PAGE}
        return ReportPage(*(await self._connection.execute(_PAGES[format], arguments)).one())

    async def count(self, day: date) -> int:
        query = select(func.sum(ReportRunPart.orders)).where(ReportRunPart.report_date == day)
        return int(await self._connection.scalar(query) or 0)

    async def summary(self, first: date, last: date) -> Sequence[Row[Any]]:
        """The sums of the days that were built."""
        return (await self._connection.execute(_SUMMARY, {"first": first, "last": last})).all()

    async def lock_run(self, day: date) -> int:
        """Wait for any other builder of this day. The number of run parts built so far."""
        await self._connection.execute(
            insert(ReportRun).values(report_date=day).on_conflict_do_nothing()
        )
        query = select(ReportRun.batches).where(ReportRun.report_date == day).with_for_update()
        return (await self._connection.scalars(query)).one()

    async def build(self, day: date, day_begins: datetime, day_ends: datetime) -> RunPart:
        await self._connection.execute(LONG)
        first_id = (await self._connection.scalars(_FIRST_ID)).one()
        times = {"day_begins": day_begins, "day_ends": day_ends}
        is_begun = await self._connection.scalar(_IS_BEGUN, {"day": day})
        statement = _BUILD_MORE if is_begun else _BUILD
        built = await self._connection.execute(statement, {"day": day, **times})
        created = cast(CursorResult[Any], built).rowcount
        arguments = {"day": day, "day_ends": day_ends, "created": created}
        return RunPart((await self._connection.scalars(_CLOSE, arguments)).one(), created, first_id)

    async def enqueue_messages(
        self, day: date, part: RunPart, origin: Mapping[str, str]
    ) -> list[int]:
        """Write the messages about a run part into the outbox; their ids there. An empty part has
        one message. `origin` are headers that say what has built it."""
        messages = max(1, ceil(part.created / ROWS_PER_MESSAGE))
        after, ids = part.first_id - 1, []
        await self._connection.execute(_NO_SORT)
        for number in range(1, messages + 1):
            arguments = {
                "day": day,
                "date": str(day),
                "origin": json.dumps(origin),
                "row_end": f',"report_at":"{day}"}}',
                "after": after,
                "rows_per_message": ROWS_PER_MESSAGE,
                "message_id": _message_id(day, part.number, number, messages),
                "part": f',"part":{number},"parts":{messages}' if messages > 1 else "",
            }
            enqueued = (await self._connection.execute(_ENQUEUE, arguments)).one()
            after = enqueued.last
            ids.append(enqueued.id)
        return ids

    async def compare(self, day: date, day_begins: datetime, day_ends: datetime) -> Comparison:
        await self._connection.execute(LONG)
        arguments = {"day": day, "day_begins": day_begins, "day_ends": day_ends}
        return Comparison(*(await self._connection.execute(_COMPARE, arguments)).one())

    async def of_order(self, order_id: int) -> Mapping[str, Any] | None:
        """Its row, with the id of the message that told of it."""
        arguments = {"order_id": order_id, "rows_per_message": ROWS_PER_MESSAGE}
        row = (await self._connection.execute(_OF_ORDER, arguments)).mappings().one_or_none()
        if row is None:
            return None
        number = ceil((row["place"] or 1) / ROWS_PER_MESSAGE)
        told = _message_id(row["report_at"], row["part"], number, row["messages"])
        return {**row, "message_id": told}

    async def first_start(self) -> datetime:
        return (await self._connection.scalars(select(Installation.started_at))).one()

    async def now(self) -> datetime:
        return (await self._connection.scalars(select(func.now()))).one()

    async def late_quarters(self, before: datetime) -> Sequence[datetime]:
        """The quarters of an hour, by their beginnings, that late orders are dated into."""
        await self._connection.execute(LONG)
        return (await self._connection.scalars(_LATE, {"before": before})).all()

    async def late_orders_built(self, looked_at: datetime) -> None:
        """All late orders that had arrived by `looked_at` are in their reports."""
        await self._connection.execute(_ALL_BUILT, {"looked_at": looked_at - _LATE_MARGIN})

    async def has_new_orders(self, day: date, day_begins: datetime, day_ends: datetime) -> bool:
        """Whether building the day would write rows."""
        await self._connection.execute(LONG)
        arguments = {"day": day, "day_begins": day_begins, "day_ends": day_ends}
        return bool(await self._connection.scalar(_HAS_NEW, arguments))

    async def count_closed(self, since: date, before: date) -> int:
        query = select(func.count()).where(
            ReportRun.report_date >= since,
            ReportRun.report_date < before,
            ReportRun.closed_at.is_not(None),
        )
        return await self._connection.scalar(query) or 0

    async def closed_days(self, since: date) -> set[date]:
        query = select(ReportRun.report_date).where(
            ReportRun.report_date >= since, ReportRun.closed_at.is_not(None)
        )
        return set((await self._connection.scalars(query)).all())


def _message_id(day: date, part: int, number: int, messages: int) -> str:
    return f"report:{day}:{part}" + (f":{number}" if messages > 1 else "")
