from collections.abc import AsyncIterator
from datetime import date, timedelta

import structlog

from app.database import Database
from app.errors import NotYet
from app.metrics import REPORT_ROWS
from app.repositories.reports import ReportPage, ReportRepository
from app.schemas.reports import ReportBuilt
from app.services.after_commit import AfterCommit
from app.services.calendar import Calendar

log = structlog.get_logger(__name__)


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

    async def of_day(self, day: date) -> AsyncIterator[str]:
        """The day's rows as one JSON list, in pieces: each row that is committed by now, once.

        The first page is read at once, so that a failure comes before the response begins. Raises
        Unavailable, also between two pieces."""
        return self._as_list(day, await self._page(day, 0))

    async def _as_list(self, day: date, page: ReportPage) -> AsyncIterator[str]:
        yield "[" + page.rows[1:]
        while page.more_after is not None:
            page = await self._page(day, page.more_after)
            yield page.rows
        yield "]"

    async def _page(self, day: date, after: int) -> ReportPage:
        """On a connection of its own, so that a slow client holds none."""
        async with self._database.autocommit() as connection:
            return await ReportRepository(connection).page(day, after)

    async def build(self, day: date) -> ReportBuilt:
        """Write the day's missing rows, and the message about them into the outbox. Repeatable.

        Raises NotYet for a day in the future."""
        if day > self.today():
            raise NotYet(day)
        log.info(f"Starting report generation for date: {day}")
        parts_before = await self._reports.lock_run(day)
        part = await self._reports.build(day, self._calendar.begins(day), self._calendar.ends(day))
        if part.created or not parts_before:  # a day without orders has one message
            self._after_commit.enqueued(await self._reports.enqueue_messages(day, part))
        REPORT_ROWS.inc(part.created)
        log.info(f"Created {part.created} reports for date {day}")
        return ReportBuilt(
            report_date=day, created=part.created, reports_count=await self._reports.count(day)
        )

    async def days_owed(self) -> list[date]:
        """Yesterday, always, for orders that came late; and every ended day since the first start
        whose run is not closed, whatever kept the clock from ringing."""
        today = self.today()
        first = self._calendar.day_of(await self._reports.first_start())
        closed = await self._reports.closed_days(first)
        ended = [first + timedelta(days=n) for n in range((today - first).days)]
        yesterday = today - timedelta(days=1)
        return sorted({day for day in ended if day not in closed} | {yesterday})
