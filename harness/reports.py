"""Building a day's report as the nightly task does it, and reading what was built."""

import json
from datetime import date
from typing import Any

from app.container import Container
from app.schemas.reports import ReportBuilt
from harness.databases import connected
from harness.queues import QueueClient, Received

DAY = date(2025, 12, 16)
NOON = "2025-12-16T12:00:00"


async def build(container: Container, day: date = DAY) -> ReportBuilt:
    """Build, commit and send, as the nightly task does."""
    async with container.unit_of_work() as uow:
        built = await uow.reports.build(day)
    await container.relay.send(uow.after_commit.outbox_ids)
    return built


async def rows_of(container: Container, day: date = DAY) -> list[tuple[int, int]]:
    """The order id and the number of pieces of every row of a day's report."""
    return [(row["order_id"], row["count_product"]) for row in await report_of(container, day)]


async def report_of(container: Container, day: date = DAY) -> list[dict[str, Any]]:
    """The report as GET /report sends it: its pieces are read after the unit of work has ended."""
    async with container.reading() as uow:
        pieces = await uow.reports.of_day(day)
    rows: list[dict[str, Any]] = json.loads("".join([piece async for piece in pieces]))
    return rows


async def make_building_slow(database_url: str, seconds: float) -> None:
    """Make building take this long, as the report of a very large day does."""
    async with connected(database_url) as connection:
        await connection.execute(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS "
            f"'BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END'; "
            "CREATE TRIGGER dawdle AFTER INSERT ON reports EXECUTE FUNCTION dawdle()"
        )


async def messages(queues: QueueClient) -> list[Received]:
    """Take all messages out of the queue `report`."""
    found = []
    while message := await queues.poll("report"):
        found.append(message)
    return found
