"""Which orders belong to a day, and which days are owed."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta

import pytest

from app.container import Container
from app.errors import NotYet
from app.scheduler import ensure_reports
from harness.databases import connected
from harness.dependencies import Dependencies
from harness.invariants import check_invariants
from harness.queues import QueueClient
from harness.reports import NOON, build, messages, rows_of
from harness.shop import Shop


async def test_a_day_begins_and_ends_at_midnight_in_the_configured_zone(
    dependencies: Dependencies, shop: Shop
) -> None:
    """Berlin's 26 October 2025 has 25 hours: from 22:00 UTC to 23:00 UTC."""
    product_id = await shop.product()
    times = {
        "2025-10-25T21:59:59.999999": False,
        "2025-10-25T22:00:00": True,
        "2025-10-26T22:59:59.999999": True,
        "2025-10-26T23:00:00": False,
    }
    inside = []
    for ordered_at, is_inside in times.items():
        order = await shop.order((product_id, 1), ordered_at=ordered_at)
        inside += [order.id] if is_inside else []
    settings = dependencies.settings(report_timezone="Europe/Berlin")
    async with Container.open(settings) as container:
        await build(container, date(2025, 10, 26))
        assert [id for id, _ in await rows_of(container, date(2025, 10, 26))] == inside


async def test_four_concurrent_builds_of_a_day_write_it_once(
    dependencies: Dependencies, shop: Shop, queues: QueueClient, database_url: str
) -> None:
    product_id = await shop.product()
    for _ in range(5):
        await shop.order((product_id, 1), ordered_at=NOON)
    async with AsyncExitStack() as stack:
        opened = [Container.open(dependencies.settings()) for _ in range(4)]
        containers = [await stack.enter_async_context(one) for one in opened]
        built = await asyncio.gather(*map(build, containers))
    assert sorted(one.created for one in built) == [0, 0, 0, 5]
    assert len(await messages(queues)) == 1
    await check_invariants(database_url)


async def test_a_future_day_has_no_report(container: Container) -> None:
    with pytest.raises(NotYet):
        await build(container, datetime.now(UTC).date() + timedelta(days=2))


async def test_after_a_downtime_every_day_is_built_once(
    container: Container, shop: Shop, queues: QueueClient, database_url: str
) -> None:
    today = datetime.now(UTC).date()
    days = [today - timedelta(days=n) for n in range(5, 0, -1)]
    async with connected(database_url) as connection:
        await connection.execute("UPDATE installation SET started_at = $1", _noon(days[0]))
        await build(container, days[1])  # built on request and closed already
        await ensure_reports(container)
        runs = await connection.fetch(
            "SELECT report_date, batches FROM report_runs WHERE closed_at IS NOT NULL"
        )
    assert sorted(tuple(row) for row in runs) == [(day, 1) for day in days]
    assert sorted(message.json["report_date"] for message in await messages(queues)) == [
        day.isoformat() for day in days
    ]
    async with container.reading() as uow:
        assert await uow.reports.days_owed() == [days[-1]]
    await shop.order((await shop.product(), 1), ordered_at=_noon(days[-1]).isoformat())
    await ensure_reports(container)  # builds yesterday again, for orders that came late
    assert len(await rows_of(container, days[-1])) == 1


async def test_a_day_that_was_built_before_its_end_is_built_again(
    container: Container, shop: Shop, database_url: str
) -> None:
    """The run of today is moved to yesterday, as if it had been built before that day ended."""
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    await build(container, today)
    async with connected(database_url) as connection:
        assert await connection.fetchval("SELECT closed_at FROM report_runs") is None
        await connection.execute("UPDATE report_runs SET report_date = $1", yesterday)
    order = await shop.order((await shop.product(), 1), ordered_at=_noon(yesterday).isoformat())
    await ensure_reports(container)
    assert await rows_of(container, yesterday) == [(order.id, 1)]


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
