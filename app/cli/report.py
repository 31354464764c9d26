"""`report`: build what is owed, and compare rows with orders."""

from collections.abc import Iterable
from datetime import date, timedelta

from rich.progress import track

from app.cli.configured import failures_in_one_line, with_database
from app.client.console import console
from app.client.errors import CliError
from app.container import Container
from app.errors import Refusal
from app.schemas.reports import Comparison
from app.settings import Settings

_BUILD_SECONDS = 300
_CHECKED_DAYS = 14


async def build(settings: Settings, day: date | None) -> None:
    """Their messages stay in the outbox for the worker: RabbitMQ may not be ours to use."""
    with failures_in_one_line("report"):
        async with Container.open(with_database(settings)) as container:
            async with container.unit_of_work(_BUILD_SECONDS) as uow:
                days = [day] if day else await uow.reports.days_owed()
            for one in _tracked(days, "building"):
                try:
                    async with container.unit_of_work(_BUILD_SECONDS) as uow:
                        built = await uow.reports.build(one)
                except Refusal as refusal:
                    raise CliError(refusal.detail) from None
                console.print(f"{one}  {built.created} new rows, {built.reports_count} in all")


async def check(settings: Settings, first: date | None, last: date | None) -> None:
    """Raises SystemExit with 1 if rows and orders differ."""
    differ = 0
    with failures_in_one_line("report"):
        async with Container.open(with_database(settings)) as container:
            for day in _tracked(_days(container, first, last), "comparing"):
                async with container.unit_of_work(_BUILD_SECONDS) as uow:
                    found = await uow.reports.compare(day)
                differ += not found.is_right
                console.print(f"{day}  {_in_words(found)}", soft_wrap=True)
    if differ:
        raise SystemExit(f"{differ} days differ: build them with `python -m app report build DAY`")


def _tracked(days: list[date], what: str) -> Iterable[date]:
    return track(days, what, console=console, disable=not console.is_terminal)


def _in_words(found: Comparison) -> str:
    counts = f"{found.orders} orders, {found.rows} rows"
    if found.is_right:
        return f"{counts}: right"
    return (
        f"{counts}: {found.missing} orders have no row, {found.surplus} rows no order of that day, "
        f"{found.wrong} rows another number of products"
    )


def _days(container: Container, first: date | None, last: date | None) -> list[date]:
    today = container.calendar.today()
    if first is None:
        first, last = today - timedelta(days=_CHECKED_DAYS), today - timedelta(days=1)
    return [first + timedelta(days=n) for n in range(((last or first) - first).days + 1)]
