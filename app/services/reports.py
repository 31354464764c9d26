from collections.abc import AsyncIterator
from datetime import date, datetime, timedelta
from typing import Any

import structlog

from app.database import Database
from app.errors import NotYet
from app.metrics import REPORT_ROWS
from app.repositories.reports import ReportPage, ReportRepository
from app.runtime.origin import origin
from app.schemas.reports import (
    Comparison,
    ReportBuilt,
    ReportDay,
    ReportFormat,
    ReportRead,
    ReportSummary,
)
from app.services.after_commit import AfterCommit
from app.services.calendar import Calendar

log = structlog.get_logger(__name__)

# What stands before the rows, and what after them.
_AROUND = {
    ReportFormat.JSON: ("[", "]"),
    ReportFormat.CSV: (",".join(ReportRead.model_fields), "\r\n"),
}


class ReportService:
    """`database` is for pages that are read while a response is sent, when the unit of work has
    ended."""

    def __init__(
        self,
        reports: ReportRepository,
        calendar: Calendar,
        after_commit: AfterCommit,
        database: Database,
    ) -> None:
        self._reports = reports
        self._calendar = calendar
        self._after_commit = after_commit
        self._database = database

    def today(self) -> date:
        return self._calendar.today()

    async def of_day(
        self, day: date, format: ReportFormat = ReportFormat.JSON
    ) -> AsyncIterator[str]:
        """The day's rows as one JSON list or CSV table, in pieces: each row that is committed by
        now, once.

        The first page is read at once, so that a failure comes before the response begins. Raises
        Unavailable, also between two pieces."""
        return self._pieces(day, format, await self._page(day, 0, format))

    async def _pieces(
        self, day: date, format: ReportFormat, page: ReportPage
    ) -> AsyncIterator[str]:
        begin, end = _AROUND[format]
        yield begin + page.rows.removeprefix(",")
        while page.more_after is not None:
            page = await self._page(day, page.more_after, format)
            yield page.rows
        yield end

    async def _page(self, day: date, after: int, format: ReportFormat) -> ReportPage:
        """On a connection of its own, so that a slow client holds none."""
        async with self._database.autocommit() as connection:
            return await ReportRepository(connection).page(day, after, format)

    async def summary(self, first: date, last: date) -> ReportSummary:
        """Every day from `first` to `last`, also those without a report."""
        found = {row.report_date: row for row in await self._reports.summary(first, last)}
        numbers = range(first.toordinal(), last.toordinal() + 1)
        days = [_report_day(day, found.get(day)) for day in map(date.fromordinal, numbers)]
        orders, units = sum(day.orders for day in days), sum(day.units for day in days)
        return ReportSummary(days=days, orders=orders, units=units)

    async def build(self, day: date) -> ReportBuilt:
        """Write the day's missing rows, and the message about them into the outbox. Repeatable.

        Raises NotYet for a day in the future."""
        if day > self.today():
            raise NotYet(day)
        log.info(f"Starting report generation for date: {day}")
        parts_before = await self._reports.lock_run(day)
        part = await self._reports.build(day, self._calendar.begins(day), self._calendar.ends(day))
        if part.created or not parts_before:  # a day without orders has one message
            self._after_commit.enqueued(await self._reports.enqueue_messages(day, part, origin()))
        REPORT_ROWS.inc(part.created)
        log.info(f"Created {part.created} reports for date {day}")
        return ReportBuilt(
            report_date=day, created=part.created, reports_count=await self._reports.count(day)
        )

    async def compare(self, day: date) -> Comparison:
        """Its rows with its orders. Orders that have come since the day was built are missing."""
        return await self._reports.compare(
            day, self._calendar.begins(day), self._calendar.ends(day)
        )

    async def build_running_day(self) -> None:
        """The orders of today so far. Without new ones, as at midnight, nothing is built."""
        today = self.today()
        day = (today, self._calendar.begins(today), self._calendar.ends(today))
        if await self._reports.has_new_orders(*day):
            await self.build(today)

    async def days_owed(self) -> list[date]:
        """Yesterday, always; every ended day since the first start whose run is not closed,
        whatever kept the clock from ringing; and every day whose run was closed before its last
        order came."""
        today = self.today()
        first = self._calendar.day_of(await self._reports.first_start())
        dated = await self._days_of_late_orders(today)
        closed = await self._reports.closed_days(min({first, *dated}))
        ended = {first + timedelta(days=n) for n in range((today - first).days)}
        if late := sorted(dated & closed):
            log.info("orders came late for closed days", days=", ".join(map(str, late)))
        return sorted(ended - closed | {today - timedelta(days=1), *late})

    async def _days_of_late_orders(self, today: date) -> set[date]:
        """And perhaps a day beside them, where midnight is in the middle of a quarter."""
        quarters = await self._reports.late_quarters(self._calendar.begins(today))
        ends = [quarter + timedelta(minutes=15, microseconds=-1) for quarter in quarters]
        return {self._calendar.day_of(moment) for moment in (*quarters, *ends)}

    async def now(self) -> datetime:
        return await self._reports.now()

    async def all_built(self, looked_at: datetime) -> None:
        """The days that were owed at `looked_at` are built: no need to look for their late orders
        again."""
        await self._reports.late_orders_built(looked_at)


def _report_day(day: date, built: Any) -> ReportDay:
    if built is None:
        return ReportDay(report_date=day, orders=0, units=0, closed=False, built_at=None)
    return ReportDay.of(built)
