"""Nights without a scheduler, nights with two, and days on which the clocks change."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import aio_pika
import pytest
from redis.asyncio import Redis

from app.container import Container
from app.queues import Queue
from app.scheduler import ensure_reports
from app.services import calendar
from harness.reports import rows_of
from harness.shop import Shop
from harness.waiting import eventually
from tests.faults.invariants import check_report_messages, take_all
from tests.faults.support.messages import pickled
from tests.faults.support.system import System

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = pytest.mark.fault

on_rabbitmq = pytest.mark.parametrize("transport", ["rabbitmq"])

_RUNS = "SELECT report_date, batches FROM report_runs WHERE closed_at IS NOT NULL ORDER BY 1"
# A day on which the clocks change, and when it and the next one begin in UTC.
CHANGED = [
    ("Europe/Berlin", date(2025, 3, 30), "2025-03-29T23:00", "2025-03-30T22:00"),
    ("Europe/Berlin", date(2025, 10, 26), "2025-10-25T22:00", "2025-10-26T23:00"),
    ("Africa/Cairo", date(2025, 4, 25), "2025-04-24T22:00", "2025-04-25T21:00"),
    ("Africa/Cairo", date(2025, 10, 30), "2025-10-29T21:00", "2025-10-30T22:00"),
    ("America/Havana", date(2025, 3, 9), "2025-03-09T05:00", "2025-03-10T04:00"),
    ("America/Havana", date(2025, 11, 2), "2025-11-02T04:00", "2025-11-03T05:00"),
]


async def test_a_day_has_every_order_between_its_midnights(system: System) -> None:
    second = timedelta(seconds=1)
    for zone, day, first, after in CHANGED:
        begins, ends = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (first, after))
        async with Container.open(system.dependencies.settings(report_timezone=zone)) as container:
            shop = await Shop.opened(container)
            product_id = await shop.product()
            moments = [begins - second, begins, ends - second, ends]
            orders = [
                await shop.order((product_id, 1), ordered_at=moment.isoformat())
                for moment in moments
            ]
            async with container.unit_of_work() as uow:
                await uow.reports.build(day)
            reported = {order_id for order_id, _ in await rows_of(container, day)}
        assert reported & {order.id for order in orders} == {orders[1].id, orders[2].id}, (
            zone,
            day,
        )


async def _order_on(shop: Shop, product_id: int, days_ago: int) -> None:
    moment = datetime.now(UTC) - timedelta(days=days_ago)
    await shop.order((product_id, 1), ordered_at=moment.isoformat())


@on_rabbitmq
async def test_two_schedulers_and_two_workers_after_three_nights_without_any(
    system: System,
) -> None:
    async with system.shop() as shop, system.queues() as queues:
        product_id = await shop.product()
        for days_ago in (1, 2, 2, 3):
            await _order_on(shop, product_id, days_ago)
        await system.execute("UPDATE installation SET started_at = now() - interval '3 days'")
        more = [system.another(f"{kind}-2", kind) for kind in ("taskiq_worker", "scheduler")]
        for process in more:
            process.start()
        await system.start("taskiq_worker", "scheduler")

        async def are_sent() -> bool:
            built = len(await system.fetch(_RUNS)) == 3
            return built and not await system.fetch("SELECT FROM outbox")

        await eventually(are_sent, 20)
        days = [datetime.now(UTC).date() - timedelta(days=n) for n in (3, 2, 1)]
        assert [tuple(row) for row in await system.fetch(_RUNS)] == [(day, 1) for day in days]
        sent = await take_all(queues, Queue.REPORT)
        assert {m.message_id for m in sent} == {f"report:{day}:1" for day in days}
        await check_report_messages(system.database_url, sent)


async def test_a_clock_that_is_set_back_over_midnight(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order arrives in the hour that is repeated: the day gets a second run part for it, with a
    message of its own."""
    day = datetime.now(UTC).date() - timedelta(days=5)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    await system.execute("UPDATE installation SET started_at = $1", midnight - timedelta(hours=9))
    async with system.container() as container, system.queues() as queues:
        shop = await Shop.opened(container)
        product_id = await shop.product()
        for minutes in (10, -50, -30, 20):
            now = midnight + timedelta(minutes=minutes)
            monkeypatch.setattr(calendar, "datetime", _clock_at(now))
            if now < midnight:
                await shop.order((product_id, 1), ordered_at=now.isoformat())
            await ensure_reports(container)
        runs = await system.fetch(_RUNS)
        assert [tuple(run) for run in runs] == [(day - timedelta(days=1), 1), (day, 2)]
        await check_report_messages(system.database_url, await take_all(queues, Queue.REPORT))


def _clock_at(moment: datetime) -> Any:
    class Clock(datetime):
        @classmethod
        def now(cls, _tz: Any = None) -> datetime:  # type: ignore[override]
            return moment

    return Clock


_SHAPES = ["schedule:cron", "schedule:interval", "schedule:time:{minute}"]


@on_rabbitmq
async def test_pickles_in_redis_and_in_the_task_queue_execute_nothing(
    system: System, tmp_path: Any
) -> None:

    made = tmp_path / "made"
    poison = pickled(made)
    port = system.dependencies.valkey.port
    minute = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M")
    async with Redis(port=port, db=2) as results, Redis(port=port, db=3) as schedules:
        for shape in _SHAPES:
            await schedules.lpush(shape.format(minute=minute), b"evil", poison)
        for key in ("schedule:data:evil", b"schedule:data:" + poison, "schedule:evil"):
            await schedules.set(key, poison)
        await results.set("result:evil", poison)
        await system.start("taskiq_worker", "scheduler")
        assert system.dependencies.rabbitmq
        async with await aio_pika.connect(system.dependencies.rabbitmq.url) as connection:
            exchange = (await connection.channel()).default_exchange
            shapes: list[dict[str, Any]] = [{}, {"task_id": "evil", "task_name": "nightly_reports"}]
            for headers in shapes:
                await exchange.publish(aio_pika.Message(poison, headers=headers), "taskiq")
        await system.script("-c", _READ_AND_KICK)
    assert not made.exists()
    assert system.taskiq_worker.running and system.scheduler.running


_READ_AND_KICK = """
import asyncio
from app.scheduler import broker, nightly_reports, results, schedules

async def attempt(reading):
    try:
        await reading
    except Exception as error:
        print(repr(error))

async def main():
    await broker.startup()
    await attempt(results.get_result("evil"))
    await attempt(schedules.get_schedules())
    result = await (await nightly_reports.kiq()).wait_result(timeout=20)
    await broker.shutdown()
    assert not result.is_err, result.error

asyncio.run(main())
"""
