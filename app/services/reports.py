from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from app.errors import NotYet
from app.metrics import REPORT_ROWS
from app.repositories.reports import ReportRepository
from app.schemas.reports import ReportBuilt
from app.services.after_commit import Changes

log = structlog.get_logger(__name__)


class Calendar:
    """Report days: from one local midnight to the next, 23 to 25 hours."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)

    def day_of(self, moment: datetime) -> date:
        return moment.astimezone(self._zone).date()

    def begins(self, day: date) -> datetime:
        # Where a clock change skips midnight, this is the first moment after the gap.
        midnight = datetime.combine(day, time(), self._zone)
        try:
            return midnight.astimezone(UTC)
        except OverflowError:  # east of Greenwich the first of all days begins before it
            return datetime.min.replace(tzinfo=UTC)

    def ends(self, day: date) -> datetime:
        return self.begins(day + timedelta(days=1))


class ReportService:
    """`read_page` reads outside the Work, which has ended when an answer is sent."""

    def __init__(
        self,
        reports: ReportRepository,
        calendar: Calendar,
        changes: Changes,
        read_page: Callable[[date, int], Awaitable[Any]],
    ) -> None:
        self._reports = reports
        self._calendar = calendar
        self._changes = changes
        self._read_page = read_page

    def today(self) -> date:
        return self._calendar.day_of(datetime.now(UTC))

    async def of_day(self, day: date) -> AsyncIterator[str]:
        """The day's rows as one JSON list, in pieces: every row that is committed by now, once.

        The first page is read at once, so that a failure comes before the answer begins."""
        return self._as_list(day, await self._read_page(day, 0))

    async def _as_list(self, day: date, page: Any) -> AsyncIterator[str]:
        yield "[" + page.rows[1:]
        while page.more_after is not None:
            page = await self._read_page(day, page.more_after)
            yield page.rows
        yield "]"

    async def build(self, day: date) -> ReportBuilt:
        """Write the day's missing rows and the message that tells of them. Repeatable."""
        if day > self.today():
            raise NotYet(day)
        log.info(f"Starting report generation for date: {day}")
        batches_before = await self._reports.lock_run(day)
        batch = await self._reports.build(day, self._calendar.begins(day), self._calendar.ends(day))
        if batch.created or not batches_before:  # a day without orders is told once
            self._changes.outbox_ids.extend(await self._reports.tell(day, batch))
        REPORT_ROWS.inc(batch.created)
        log.info(f"Created {batch.created} reports for date {day}")
        return ReportBuilt(
            report_date=day, created=batch.created, reports_count=await self._reports.count(day)
        )

    async def days_owed(self) -> list[date]:
        """Yesterday, always, for orders that came late; and every ended day since the first start
        that was not closed, whatever kept the clock from ringing."""
        today = self.today()
        first = self._calendar.day_of(await self._reports.first_start())
        closed = await self._reports.closed_days(first)
        ended = [first + timedelta(days=n) for n in range((today - first).days)]
        yesterday = today - timedelta(days=1)
        return sorted({day for day in ended if day not in closed} | {yesterday})
