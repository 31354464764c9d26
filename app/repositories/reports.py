from datetime import date, datetime
from typing import Any

from sqlalchemy import DateTime, Row, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Installation, Report, ReportRun

ROWS_PER_MESSAGE = 10_000
ROWS_PER_PAGE = 5_000

# Rows, batch number, closing and messages in one statement: the rows never travel to us.
# A day's first batch sends a message even if it is empty; later ones only if they found orders.
_BUILD = text("""
WITH created AS (
    INSERT INTO reports (report_at, order_id, count_product)
    SELECT :day, o.id, sum(i.quantity)
    FROM orders o JOIN order_items i ON i.order_id = o.id
    WHERE o.ordered_at >= :day_begins AND o.ordered_at < :day_ends
    GROUP BY o.id ORDER BY o.id
    ON CONFLICT (report_at, order_id) DO NOTHING
    RETURNING id, order_id, count_product
), numbered AS (
    SELECT *, (row_number() OVER (ORDER BY order_id) - 1) / :rows_per_message AS part FROM created
), run AS (
    UPDATE report_runs
    SET batches = batches + (batches = 0 OR EXISTS (SELECT FROM created))::int,
        closed_at = coalesce(closed_at, CASE WHEN now() >= :day_ends THEN now() END)
    WHERE report_date = :day
    RETURNING batches
), messages AS (
    SELECT part, json_agg(json_build_object('report_id', id, 'order_id', order_id, 'count_product',
        count_product, 'report_at', CAST(:day AS date)) ORDER BY order_id) AS rows, count(*) AS n
    FROM numbered GROUP BY part
    UNION ALL
    SELECT 0, '[]', 0 FROM run WHERE batches = 1 AND NOT EXISTS (SELECT FROM created) AND :is_first
), counted AS (
    SELECT *, count(*) OVER () AS parts FROM messages
), sent AS (
    INSERT INTO outbox (queue, message_id, headers, body)
    SELECT 'report',
        concat_ws(':', 'report', CAST(:day AS date), run.batches,
            CASE WHEN parts > 1 THEN part + 1 END),
        jsonb_build_object('report_date', CAST(:day AS date)),
        json_strip_nulls(json_build_object('report_date', CAST(:day AS date),
            'reports_count', n, 'reports', rows,
            'created_at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'),
            'part', CASE WHEN parts > 1 THEN part + 1 END,
            'parts', CASE WHEN parts > 1 THEN parts END))::text
    FROM counted, run ORDER BY part
    RETURNING id
)
SELECT (SELECT count(*) FROM created) AS created,
    (SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM sent) AS outbox_ids
""").bindparams(
    bindparam("day_begins", type_=DateTime(timezone=True)),
    bindparam("day_ends", type_=DateTime(timezone=True)),
)

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


class ReportRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def page(self, day: date, after: int) -> Row[Any]:
        """`rows` beyond the order `after` as JSON, and where the next page begins if there may be
        one."""
        arguments = {"day": day, "after": after, "limit": ROWS_PER_PAGE}
        return (await self._session.execute(_PAGE, arguments)).one()

    async def count(self, day: date) -> int:
        query = select(func.count()).select_from(Report).where(Report.report_at == day)
        return await self._session.scalar(query) or 0

    async def lock_run(self, day: date) -> int:
        """Two builders of one day work one after the other. Returns the batches built so far."""
        await self._session.execute(
            insert(ReportRun).values(report_date=day).on_conflict_do_nothing()
        )
        query = select(ReportRun.batches).where(ReportRun.report_date == day).with_for_update()
        return (await self._session.scalars(query)).one()

    async def build(
        self, day: date, day_begins: datetime, day_ends: datetime, is_first: bool
    ) -> Row[Any]:
        """`created` new rows, and `outbox_ids` of the messages that tell of them."""
        # A large day takes longer than a request may.
        await self._session.execute(text("SET LOCAL statement_timeout = '5min'"))
        answer = await self._session.execute(
            _BUILD,
            {
                "day": day,
                "day_begins": day_begins,
                "day_ends": day_ends,
                "is_first": is_first,
                "rows_per_message": ROWS_PER_MESSAGE,
            },
        )
        return answer.one()

    async def first_start(self) -> datetime:
        return (await self._session.scalars(select(Installation.started_at))).one()

    async def closed_days(self, since: date) -> set[date]:
        query = select(ReportRun.report_date).where(
            ReportRun.report_date >= since, ReportRun.closed_at.is_not(None)
        )
        return set((await self._session.scalars(query)).all())
