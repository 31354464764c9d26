from datetime import date, datetime
from math import ceil
from typing import Any, NamedTuple, cast

from sqlalchemy import CursorResult, DateTime, Row, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import Installation, Report, ReportRun

ROWS_PER_MESSAGE = 10_000
ROWS_PER_PAGE = 5_000

# The rows never travel to us. The builders of a day wait for each other, so NOT EXISTS is enough;
# ON CONFLICT would look every row up twice.
_BUILD = text("""
INSERT INTO reports (report_at, order_id, count_product)
SELECT :day, o.id, sum(i.quantity)
FROM orders o JOIN order_items i ON i.order_id = o.id
WHERE o.ordered_at >= :day_begins AND o.ordered_at < :day_ends
    AND NOT EXISTS (SELECT FROM reports r WHERE r.report_at = :day AND r.order_id = o.id)
GROUP BY o.id ORDER BY o.id
""").bindparams(
    bindparam("day_begins", type_=DateTime(timezone=True)),
    bindparam("day_ends", type_=DateTime(timezone=True)),
)
# Other days may take ids meanwhile, but no row of this day can have a smaller one. To ask the new
# rows themselves, by RETURNING, would keep all of them in memory.
_FIRST_ID = text("SELECT last_value + is_called::int FROM reports_id_seq")
_CLOSE = text("""
UPDATE report_runs
SET batches = batches + (batches = 0 OR :created > 0)::int,
    closed_at = coalesce(closed_at, CASE WHEN now() >= :day_ends THEN now() END)
WHERE report_date = :day
RETURNING batches
""").bindparams(bindparam("day_ends", type_=DateTime(timezone=True)))

# One message, of the batch's next rows: those of the day from `first_id` on. The index has them in
# order; the subtraction keeps the planner from the index of ids, the rest of which it would sort
# for each message. In the JSON are numbers and dates: nothing needs to be escaped.
_TELL = text("""
WITH next AS (
    SELECT * FROM reports WHERE report_at = :day AND order_id > :after AND id - :first_id >= 0
    ORDER BY order_id LIMIT :rows_per_message
), body AS (
    SELECT count(*) AS n, max(order_id) AS last, string_agg(concat('{"report_id":', id,
        ',"order_id":', order_id, ',"count_product":', count_product,
        ',"report_at":"', CAST(:date AS text), '"}'), ',' ORDER BY order_id) AS rows
    FROM next
), sent AS (
    INSERT INTO outbox (queue, message_id, headers, body)
    SELECT 'report', :message_id, jsonb_build_object('report_date', CAST(:date AS text)),
        concat('{"report_date":"', CAST(:date AS text), '","reports_count":', n, ',"reports":[',
            rows, '],"created_at":"',
            to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '"',
            CAST(:part AS text), '}')
    FROM body
    RETURNING id
)
SELECT sent.id, body.last FROM sent, body
""")

# The JSON of `ReportRead`, made where the rows are: nothing in it needs to be escaped.
# Each row has its comma before it, so that pages can follow one another as they are.
_PAGE = text("""
WITH page AS (
    SELECT * FROM reports WHERE report_at = :day AND order_id > :after
    ORDER BY order_id LIMIT :limit
)
SELECT coalesce(string_agg(concat(',{"id":', id, ',"report_at":"', report_at, '","order_id":',
        order_id, ',"count_product":', count_product, ',"created_at":"', replace(to_char(
        created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '.000000', ''), '"}'),
        '' ORDER BY order_id), '') AS rows,
    CASE WHEN count(*) = :limit THEN max(order_id) END AS more_after
FROM page
""")


class Batch(NamedTuple):
    """The `number`th of a day: so many new rows, with ids from `first_id` on."""

    number: int
    created: int
    first_id: int


class ReportRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def page(self, day: date, after: int) -> Row[Any]:
        """`rows` beyond the order `after` as JSON, and where the next page begins if there may be
        one."""
        arguments = {"day": day, "after": after, "limit": ROWS_PER_PAGE}
        return (await self._connection.execute(_PAGE, arguments)).one()

    async def count(self, day: date) -> int:
        query = select(func.count()).select_from(Report).where(Report.report_at == day)
        return await self._connection.scalar(query) or 0

    async def lock_run(self, day: date) -> int:
        """Two builders of one day work one after the other. Returns the batches built so far."""
        await self._connection.execute(
            insert(ReportRun).values(report_date=day).on_conflict_do_nothing()
        )
        query = select(ReportRun.batches).where(ReportRun.report_date == day).with_for_update()
        return (await self._connection.scalars(query)).one()

    async def build(self, day: date, day_begins: datetime, day_ends: datetime) -> Batch:
        # A large day takes longer than a request may.
        await self._connection.execute(text("SET LOCAL statement_timeout = '5min'"))
        first_id = (await self._connection.scalars(_FIRST_ID)).one()
        times = {"day_begins": day_begins, "day_ends": day_ends}
        built = await self._connection.execute(_BUILD, {"day": day, **times})
        created = cast(CursorResult[Any], built).rowcount
        arguments = {"day": day, "day_ends": day_ends, "created": created}
        return Batch((await self._connection.scalars(_CLOSE, arguments)).one(), created, first_id)

    async def tell(self, day: date, batch: Batch) -> list[int]:
        """Write the messages that tell of a batch; their ids. Even an empty batch has one."""
        parts = max(1, ceil(batch.created / ROWS_PER_MESSAGE))
        after, ids = 0, []
        for part in range(1, parts + 1):
            arguments = {
                "day": day,
                "date": str(day),
                "after": after,
                "first_id": batch.first_id,
                "rows_per_message": ROWS_PER_MESSAGE,
                "message_id": f"report:{day}:{batch.number}" + (f":{part}" if parts > 1 else ""),
                "part": f',"part":{part},"parts":{parts}' if parts > 1 else "",
            }
            sent = (await self._connection.execute(_TELL, arguments)).one()
            after = sent.last
            ids.append(sent.id)
        return ids

    async def first_start(self) -> datetime:
        return (await self._connection.scalars(select(Installation.started_at))).one()

    async def closed_days(self, since: date) -> set[date]:
        query = select(ReportRun.report_date).where(
            ReportRun.report_date >= since, ReportRun.closed_at.is_not(None)
        )
        return set((await self._connection.scalars(query)).all())
