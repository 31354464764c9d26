"""Which orders belong to a day, and which days are owed."""

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from app import scheduler
from app.container import Container
from app.embedded import Postgres
from app.errors import NotYet, Unavailable
from app.repositories import reports
from app.scheduler import ensure_reports
from app.services.reports import ReportService
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


async def test_a_look_for_late_orders_may_take_long(
    container: Container, postgres: Postgres
) -> None:
    """PostgreSQL warns if SET LOCAL raises no limit, because there is no transaction."""
    log = postgres.directory / "postgres.log"
    before = log.stat().st_size
    await ensure_reports(container, running_day=True)
    assert b"SET LOCAL" not in log.read_bytes()[before:]


async def _started_ten_days_ago(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("UPDATE installation SET started_at = now() - interval '10 days'")


@pytest.mark.parametrize("zone", ["UTC", "America/St_Johns", "Pacific/Auckland"])
@pytest.mark.parametrize("days_late", [2, 9, 500])
async def test_an_order_that_is_dated_into_a_closed_day_comes_into_its_report(
    dependencies: Dependencies, shop: Shop, database_url: str, zone: str, days_late: int
) -> None:
    await _started_ten_days_ago(database_url)
    noon = _noon(datetime.now(UTC).date() - timedelta(days=days_late))
    async with Container.open(dependencies.settings(report_timezone=zone)) as container:
        day = container.calendar.day_of(noon)
        await build(container, day)  # 500 days ago it was on request
        await ensure_reports(container)
        late = await shop.order((await shop.product(), 3), ordered_at=noon.isoformat())
        with capture_logs() as lines:
            await ensure_reports(container)
        assert (late.id, 3) in await rows_of(container, day)
        assert "orders came late for closed days" in [line["event"] for line in lines]
        with capture_logs() as lines:  # and that is that
            await ensure_reports(container)
        assert len([line for line in lines if line["event"].startswith("Starting report")]) == 1
    await check_invariants(database_url)


async def test_a_late_order_is_found_after_a_long_downtime(
    container: Container, shop: Shop, database_url: str
) -> None:
    """It arrived three days ago, when the run of its day was closed already, and nobody has looked
    since. Another was committed a moment after its midnight, and so after the run."""
    await _started_ten_days_ago(database_url)
    today = datetime.now(UTC).date()
    await ensure_reports(container)
    product_id = await shop.product()
    orders = {
        today - timedelta(days=4): await shop.order((product_id, 1)),
        today - timedelta(days=3): await shop.order((product_id, 1)),
    }
    async with connected(database_url) as connection:
        times = "UPDATE installation SET late_orders_until = now() - interval '5 days'"
        await connection.execute(times)
        for day, order in orders.items():
            update = "UPDATE orders SET ordered_at = $1, created_at = $2 WHERE id = $3"
            created = max(_noon(day), _noon(today - timedelta(days=3)))
            await connection.execute(update, _noon(day), created, order.id)
    await ensure_reports(container)
    for day, order in orders.items():
        assert await rows_of(container, day) == [(order.id, 1)]


async def test_late_orders_are_looked_for_again_until_their_days_are_built(
    container: Container, shop: Shop, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _started_ten_days_ago(database_url)
    await ensure_reports(container)
    day = datetime.now(UTC).date() - timedelta(days=3)
    order = await shop.order((await shop.product(), 1), ordered_at=_noon(day).isoformat())
    with monkeypatch.context() as broken:
        broken.setattr(ReportService, "build", _unavailable)
        with pytest.raises(Unavailable):
            await ensure_reports(container)
    await ensure_reports(container)
    assert await rows_of(container, day) == [(order.id, 1)]


async def _unavailable(*_: object) -> None:
    raise Unavailable("as if PostgreSQL had gone away")


async def test_orders_that_are_dated_back_are_found_by_their_index(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("SET enable_seqscan = off")
        before = {"before": datetime.now(UTC)}
        sql = str(reports._LATE).replace(":before", f"'{before['before']}'")
        plan = "\n".join(row[0] for row in await connection.fetch("EXPLAIN " + sql))
    assert "ix_orders_dated_back" in plan and "ix_orders_ordered_at" in plan, plan


async def _ring(container: Container) -> None:
    context: Any = SimpleNamespace(message=SimpleNamespace(task_id="task-1"))
    await scheduler.nightly_reports.original_func(container, context)


async def test_a_firing_of_the_cron_builds_the_orders_of_today_so_far(
    container: Container, shop: Shop, queues: QueueClient
) -> None:
    """With `*/5 * * * *`, the rows of an order are there within five minutes."""
    today = datetime.now(UTC).date()
    order = await shop.order((await shop.product(), 4))
    await ensure_reports(container)  # the catch-up leaves the running day alone
    assert await rows_of(container, today) == []
    with capture_logs() as lines:
        await _ring(container)
    assert await rows_of(container, today) == [(order.id, 4)]
    told = [line["event"] for line in lines if str(today) in line["event"]]
    assert told == [
        f"Starting report generation for date: {today}",
        f"Created 1 reports for date {today}",
        f"Sent report message to RabbitMQ queue 'report' for date {today}",
    ]
    with capture_logs() as lines:
        await _ring(container)
    assert not [line for line in lines if str(today) in line["event"]]
    sent = [one for one in await messages(queues) if one.json["report_date"] == str(today)]
    assert [one.json["reports_count"] for one in sent] == [1]
    assert sent[0].headers["task_id"] == "task-1"


async def test_a_firing_at_midnight_builds_nothing_of_the_new_day(
    container: Container, queues: QueueClient
) -> None:
    await _ring(container)
    today = datetime.now(UTC).date()
    assert str(today) not in [one.json["report_date"] for one in await messages(queues)]


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
