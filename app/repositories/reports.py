from datetime import date, datetime
from math import ceil
from typing import Any, NamedTuple, cast

from sqlalchemy import CursorResult, DateTime, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.reports import Installation, Report, ReportRun

ROWS_PER_MESSAGE = 10_000
ROWS_PER_PAGE = 5_000

# No row leaves the database. The builders of a day wait for each other, so NOT EXISTS is enough: ON
# CONFLICT would look up each row twice.
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

# One message of a run part's next rows, which are those of the day from `first_id` on. The index
# has them in order. The subtraction keeps the planner from using the index of ids, whose rest it
# would sort for each message. The JSON holds numbers and dates: nothing needs escaping.
_ENQUEUE = text("""
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

# The JSON of `ReportRead`, made where the rows are: nothing in it needs escaping.
# Each row begins with a comma, so that pages can follow one another unchanged.
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


class RunPart(NamedTuple):
    """What one building of a day added: the day's `number`th part has `created` new rows, with ids
    from `first_id` on."""

    number: int
    created: int
    first_id: int


class ReportPage(NamedTuple):
    """`rows` are JSON objects, each with a comma before it. `more_after` is the `after` of the next
    page, None at the end."""

    rows: str
    more_after: int | None


class ReportRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def page(self, day: date, after: int) -> ReportPage:
        """The day's rows of orders with an id above `after`."""
        arguments = {"day": day, "after": after, "limit": ROWS_PER_PAGE}
        return ReportPage(*(await self._connection.execute(_PAGE, arguments)).one())

    async def count(self, day: date) -> int:
        query = select(func.count()).select_from(Report).where(Report.report_at == day)
        return await self._connection.scalar(query) or 0

    async def lock_run(self, day: date) -> int:
        """Wait for any other builder of this day. The number of run parts built so far."""
        await self._connection.execute(
            insert(ReportRun).values(report_date=day).on_conflict_do_nothing()
        )
        query = select(ReportRun.batches).where(ReportRun.report_date == day).with_for_update()
        return (await self._connection.scalars(query)).one()

    async def build(self, day: date, day_begins: datetime, day_ends: datetime) -> RunPart:
        # A large day takes longer than the limit of other statements.
        await self._connection.execute(text("SET LOCAL statement_timeout = '5min'"))
        first_id = (await self._connection.scalars(_FIRST_ID)).one()
        times = {"day_begins": day_begins, "day_ends": day_ends}
        built = await self._connection.execute(_BUILD, {"day": day, **times})
        created = cast(CursorResult[Any], built).rowcount
        arguments = {"day": day, "day_ends": day_ends, "created": created}
        return RunPart((await self._connection.scalars(_CLOSE, arguments)).one(), created, first_id)

    async def enqueue_messages(self, day: date, part: RunPart) -> list[int]:
        """Write the messages about a run part into the outbox; their ids there. An empty part has
        one message."""
        messages = max(1, ceil(part.created / ROWS_PER_MESSAGE))
        after, ids = 0, []
        for number in range(1, messages + 1):
            arguments = {
                "day": day,
                "date": str(day),
                "after": after,
                "first_id": part.first_id,
                "rows_per_message": ROWS_PER_MESSAGE,
                "message_id": f"report:{day}:{part.number}"
                + (f":{number}" if messages > 1 else ""),
                "part": f',"part":{number},"parts":{messages}' if messages > 1 else "",
            }
            enqueued = (await self._connection.execute(_ENQUEUE, arguments)).one()
            after = enqueued.last
            ids.append(enqueued.id)
        return ids

    async def first_start(self) -> datetime:
        return (await self._connection.scalars(select(Installation.started_at))).one()

    async def closed_days(self, since: date) -> set[date]:
        query = select(ReportRun.report_date).where(
            ReportRun.report_date >= since, ReportRun.closed_at.is_not(None)
        )
        return set((await self._connection.scalars(query)).all())
