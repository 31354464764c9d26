"""The nightly report with the two TaskIQ processes alone: no web and no consumers run."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.databases import connected
from harness.dependencies import Dependencies
from harness.invariants import check_invariants
from harness.queues import queue_client
from harness.service import Service
from harness.shop import Shop
from harness.tree import copy_tree, edit
from harness.waiting import eventually

NIGHTLY = '"cron": "0 0 * * *"'
EVERY_MINUTE = '"cron": "* * * * *"'
# TaskIQ's clock in the copy. It is a minute ahead from when the test makes the file.
CLOCK = """

from datetime import datetime, timedelta
from pathlib import Path

from taskiq.cli.scheduler import run


class Clock(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) + timedelta(minutes=Path("a-minute-ahead").exists())


run.datetime = Clock
"""
# An operator's own program, which schedules a report.
SCHEDULE_SOON = """
import asyncio
from datetime import UTC, datetime, timedelta
from app.scheduler import nightly_reports, schedules

async def main():
    await schedules.startup()
    await nightly_reports.schedule_by_time(schedules, datetime.now(UTC) + timedelta(seconds=1))

asyncio.run(main())
"""


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


@pytest.fixture
async def every_minute(dependencies: Dependencies, tmp_path: Path) -> AsyncIterator[Service]:
    """The service with reports every minute: the cron line is changed as original.md says."""
    tree = copy_tree(tmp_path / "tree")
    edit(tree, "app/scheduler.py", NIGHTLY, EVERY_MINUTE)
    with (tree / "app/scheduler.py").open("a", encoding="utf-8") as file:
        file.write(CLOCK)
    async with Service(tree, tmp_path, dependencies.variables) as service:
        yield service


async def reports(database_url: str) -> list[tuple[int, int]]:
    async with connected(database_url) as connection:
        rows = await connection.fetch("SELECT order_id, count_product FROM reports ORDER BY id")
    return [tuple(row) for row in rows]


async def test_the_clock_schedules_and_restarts_build_the_reports_that_are_owed(
    every_minute: Service, dependencies: Dependencies, shop: Shop
) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).replace(tzinfo=None)
    day = yesterday.date().isoformat()
    product_id = await shop.product(stock=100)
    expected: list[tuple[int, int]] = []

    async def order_of_yesterday() -> None:
        quantity = len(expected) + 1
        order = await shop.order((product_id, quantity), ordered_at=yesterday.isoformat())
        expected.append((order.id, quantity))

    async def is_reported() -> bool:
        return await reports(dependencies.database_url) == expected

    async def is_sent() -> bool:
        async with connected(dependencies.database_url) as connection:
            return not await connection.fetchval("SELECT count(*) FROM outbox")

    # The taskiq worker builds what is owed when it starts.
    await order_of_yesterday()
    await every_minute.start("scheduler", "taskiq_worker")
    await eventually(is_reported)

    # So does a schedule that is added to Redis while the scheduler runs.
    await order_of_yesterday()
    await every_minute.script("-c", SCHEDULE_SOON)
    await eventually(is_reported, 20)

    # So does the clock while Redis is away.
    await dependencies.valkey.stop()
    await order_of_yesterday()
    (every_minute.tree / "a-minute-ahead").touch()
    await eventually(is_reported, 75)

    # So does a restart of both. The taskiq worker is killed only after its last message is sent:
    # killed earlier, it would send that message a second time.
    await eventually(is_sent, 20)
    every_minute.taskiq_worker.kill()
    assert await every_minute.scheduler.stop() in (0, -15)
    await order_of_yesterday()
    await every_minute.start("scheduler", "taskiq_worker")
    await eventually(is_reported, 20)

    await eventually(is_sent, 20)
    check_log(every_minute.taskiq_worker.output, day)
    await check_messages(dependencies, day, expected)
    await check_invariants(dependencies.database_url)


def check_log(output: str, day: str) -> None:
    """The three lines are logged word for word, in this order.

    The clock and the worker's start may both begin a run, so each line may come more than once.
    """
    lines = [json.loads(line)["message"] for line in output.splitlines() if line[0] == "{"]
    expected = [
        f"Starting report generation for date: {day}",
        f"Created 1 reports for date {day}",
        f"Sent report message to RabbitMQ queue 'report' for date {day}",
    ]
    places = [lines.index(line) for line in expected]
    assert places == sorted(places)


async def check_messages(
    dependencies: Dependencies, day: str, expected: list[tuple[int, int]]
) -> None:
    """There is one message for each run part, with the row that was new in it."""
    async with queue_client(dependencies) as queues:
        for run_part, row in enumerate(expected, 1):
            message = await queues.take("report")
            assert message.message_id == f"report:{day}:{run_part}"
            assert (message.json["report_date"], message.json["reports_count"]) == (day, 1)
            [sent] = message.json["reports"]
            assert (sent["order_id"], sent["count_product"], sent["report_at"]) == (*row, day)
        assert await queues.count("report") == 0
