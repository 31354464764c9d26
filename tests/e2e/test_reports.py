"""The nightly report by the two TaskIQ processes alone: no web, no consumers."""

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
from harness.tree import copy_tree
from harness.waiting import eventually

NIGHTLY = '"cron": "0 0 * * *"'
EVERY_MINUTE = '"cron": "* * * * *"'
# What an operator's program would do.
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
async def impatient(dependencies: Dependencies, tmp_path: Path) -> AsyncIterator[Service]:
    """Its clock rings every minute: the line is changed as original.md says."""
    tree = copy_tree(tmp_path / "tree")
    file = tree / "app" / "scheduler.py"
    source = file.read_text()
    assert source.count(NIGHTLY) == 1
    file.write_text(source.replace(NIGHTLY, EVERY_MINUTE))
    async with Service(tree, tmp_path, dependencies.variables) as service:
        yield service


async def reports(database_url: str) -> list[tuple[int, int]]:
    async with connected(database_url) as connection:
        rows = await connection.fetch("SELECT order_id, count_product FROM reports ORDER BY id")
    return [tuple(row) for row in rows]


async def test_clock_schedules_and_restarts_write_what_is_owed(
    impatient: Service, dependencies: Dependencies, shop: Shop
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

    # The worker's own start builds what is owed.
    await order_of_yesterday()
    await impatient.start("scheduler", "taskiq_worker")
    await eventually(is_reported)

    # A schedule that is put into Redis while the scheduler runs.
    await order_of_yesterday()
    await impatient.script("-c", SCHEDULE_SOON)
    await eventually(is_reported, 20)

    # The clock, while Redis is away.
    await dependencies.valkey.stop()
    await order_of_yesterday()
    await eventually(is_reported, 75)

    # A restart of both, the one killed; after its last message, or that would be sent twice.
    await eventually(is_sent, 20)
    impatient.taskiq_worker.kill()
    assert await impatient.scheduler.stop() in (0, -15)
    await order_of_yesterday()
    await impatient.start("scheduler", "taskiq_worker")
    await eventually(is_reported, 20)

    await eventually(is_sent, 20)
    check_log(impatient.taskiq_worker.output, day)
    await check_messages(dependencies, day, expected)
    await check_invariants(dependencies.database_url)


def check_log(output: str, day: str) -> None:
    """The three lines, word for word. The clock's run and the worker's own may both begin one."""
    lines = [json.loads(line)["message"] for line in output.splitlines() if line[0] == "{"]
    told = [
        f"Starting report generation for date: {day}",
        f"Created 1 reports for date {day}",
        f"Sent report message to RabbitMQ queue 'report' for date {day}",
    ]
    places = [lines.index(line) for line in told]
    assert places == sorted(places)


async def check_messages(
    dependencies: Dependencies, day: str, expected: list[tuple[int, int]]
) -> None:
    """A message for each batch, with the row that was new in it."""
    async with queue_client(dependencies) as queues:
        for batch, row in enumerate(expected, 1):
            message = await queues.take("report")
            assert message.message_id == f"report:{day}:{batch}"
            assert (message.json["report_date"], message.json["reports_count"]) == (day, 1)
            [told] = message.json["reports"]
            assert (told["order_id"], told["count_product"], told["report_at"]) == (*row, day)
        assert await queues.count("report") == 0
