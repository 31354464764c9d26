"""The report rows of a day, and the messages that announce them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from app.container import Container
from app.models.orders import Order
from app.repositories import reports
from app.repositories.reports import ReportRepository
from app.runtime.deadlines import REQUEST_SECONDS
from app.schemas.orders import OrderStatus
from app.schemas.reports import ReportBuilt
from harness.databases import connected
from harness.invariants import check_invariants
from harness.queues import QueueClient
from harness.reports import DAY, NOON, build, make_building_slow, messages, report_of, rows_of
from harness.shop import Shop

TRANSPORTS = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])


@TRANSPORTS
async def test_the_report_of_a_day_is_one_message(
    container: Container, shop: Shop, queues: QueueClient
) -> None:
    tea, rice = await shop.product(), await shop.product()
    first = await shop.order((tea, 3), (rice, 1), ordered_at=NOON)
    second = await shop.order((rice, 3), ordered_at="2025-12-16T13:00:00+01:00")
    await shop.order((rice, 5), ordered_at="2025-12-17T00:00:00")
    with capture_logs() as lines:
        assert await build(container) == ReportBuilt(report_date=DAY, created=2, reports_count=2)
    assert [line["event"] for line in lines] == [
        "Starting report generation for date: 2025-12-16",
        "Created 2 reports for date 2025-12-16",
        "Sent report message to RabbitMQ queue 'report' for date 2025-12-16",
    ]
    assert await rows_of(container) == [(first.id, 4), (second.id, 3)]

    [message] = await messages(queues)
    rows = await report_of(container)
    created_at = datetime.fromisoformat(message.json["created_at"])
    assert created_at.tzinfo is None
    assert abs(created_at - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=1)
    assert message.message_id == "report:2025-12-16:1"
    assert message.json == {
        "report_date": "2025-12-16",
        "reports_count": 2,
        "reports": [
            {
                "report_id": row["id"],
                "order_id": row["order_id"],
                "count_product": row["count_product"],
                "report_at": "2025-12-16",
            }
            for row in rows
        ],
        "created_at": message.json["created_at"],
    }


async def test_building_again_changes_nothing_and_sends_nothing(
    container: Container, shop: Shop, queues: QueueClient, database_url: str
) -> None:
    await shop.order((await shop.product(), 2), ordered_at=NOON)
    await build(container)
    before = await report_of(container)
    assert (await build(container)).created == 0
    assert await report_of(container) == before
    assert len(await messages(queues)) == 1
    await check_invariants(database_url)


@TRANSPORTS
async def test_a_late_order_comes_in_a_message_of_its_own(
    container: Container, shop: Shop, queues: QueueClient
) -> None:
    product_id = await shop.product()
    early = await shop.order((product_id, 1), ordered_at=NOON)
    await build(container)
    late = await shop.order((product_id, 2), ordered_at="2025-12-16T00:00:00")
    assert await build(container) == ReportBuilt(report_date=DAY, created=1, reports_count=2)
    assert await rows_of(container) == [(early.id, 1), (late.id, 2)]
    sent = await messages(queues)
    assert [message.message_id for message in sent] == [
        "report:2025-12-16:1",
        "report:2025-12-16:2",
    ]
    assert [[row["order_id"] for row in message.json["reports"]] for message in sent] == [
        [early.id],
        [late.id],
    ]
    assert [message.json["reports_count"] for message in sent] == [1, 1]


async def test_a_large_day_comes_in_parts(
    container: Container, shop: Shop, queues: QueueClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "ROWS_PER_MESSAGE", 2)
    product_id = await shop.product()
    orders = [(await shop.order((product_id, 1), ordered_at=NOON)).id for _ in range(5)]
    assert (await build(container)).created == 5
    sent = await messages(queues)
    assert [message.message_id for message in sent] == [
        f"report:2025-12-16:1:{part}" for part in (1, 2, 3)
    ]
    assert [(message.json["part"], message.json["parts"]) for message in sent] == [
        (1, 3),
        (2, 3),
        (3, 3),
    ]
    assert [message.json["reports_count"] for message in sent] == [2, 2, 1]
    assert [row["order_id"] for message in sent for row in message.json["reports"]] == orders


async def test_the_messages_of_a_large_day_read_each_row_once(
    container: Container, shop: Shop, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a new database the planner has no statistics of reports. It collected and sorted what was
    left of the day for each message: a million orders took four times as long."""
    monkeypatch.setattr(reports, "ROWS_PER_MESSAGE", 100)
    order = await shop.order((await shop.product(), 1), ordered_at=NOON)
    await _copy_order(database_url, order.id, 9_999)
    async with container.database.transaction(60) as connection:
        repository = ReportRepository(connection)
        await repository.lock_run(DAY)
        begins = datetime(2025, 12, 16, tzinfo=UTC)
        part = await repository.build(DAY, begins, begins + timedelta(days=1))
        read = "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_xact_user_tables"
        read_rows = text(f"{read} WHERE relid = 'reports'::regclass")
        before = await connection.scalar(read_rows)
        assert len(await repository.enqueue_messages(DAY, part, {})) == 100
        assert await connection.scalar(read_rows) - before <= 10_000


async def _copy_order(database_url: str, order_id: int, times: int) -> None:
    async with connected(database_url) as connection:
        columns = ", ".join(
            c.name for c in Order.__table__.c if c.name not in ("id", "external_id")
        )
        await connection.execute(
            f"""
            WITH copies AS (
                INSERT INTO orders ({columns}) SELECT {columns} FROM orders, generate_series(1, $2)
                WHERE id = $1 RETURNING id
            )
            INSERT INTO order_items SELECT (jsonb_populate_record(
                NULL::order_items, to_jsonb(i) || jsonb_build_object('order_id', copies.id))).*
            FROM order_items i, copies WHERE i.order_id = $1
            """,
            order_id,
            times,
        )


async def test_a_day_without_orders_is_sent_once(container: Container, queues: QueueClient) -> None:
    for _ in range(2):
        assert (await build(container)).created == 0
    [message] = await messages(queues)
    assert message.message_id == "report:2025-12-16:1"
    assert (message.json["reports_count"], message.json["reports"]) == (0, [])


async def test_orders_of_every_status_are_reported(container: Container, shop: Shop) -> None:
    product_id = await shop.product()
    paths: Sequence[list[OrderStatus]] = [
        [],
        [OrderStatus.CANCELLED],
        [OrderStatus.PROCESSING, OrderStatus.SHIPPED, OrderStatus.DELIVERED],
    ]
    for steps in paths:
        order = await shop.order((product_id, 1), ordered_at=NOON)
        await shop.change_status(order.id, *steps)
    assert (await build(container)).created == 3


async def test_the_report_over_http(client: httpx.AsyncClient, shop: Shop) -> None:
    order = await shop.order((await shop.product(), 4), ordered_at=NOON)
    path = "/report?report_date=2025-12-16"
    assert (await client.get(path)).json() == []
    built = await client.post(path)
    assert (built.status_code, built.json()) == (
        200,
        {"report_date": "2025-12-16", "created": 1, "reports_count": 1},
    )
    [row] = (await client.get(path)).json()
    expected: dict[str, Any] = {
        "id": row["id"],
        "report_at": "2025-12-16",
        "order_id": order.id,
        "count_product": 4,
        "created_at": row["created_at"],
    }
    assert row == expected
    today = await shop.order((await shop.product(), 1))
    await client.post("/report")
    assert [row["order_id"] for row in (await client.get("/report")).json()] == [today.id]


@TRANSPORTS
async def test_a_message_names_the_request_that_built_its_report(
    client: httpx.AsyncClient,
    container: Container,
    shop: Shop,
    queues: QueueClient,
    database_url: str,
) -> None:
    await shop.order((await shop.product(), 4), ordered_at=NOON)
    await client.post("/report?report_date=2025-12-16", headers={"X-Request-ID": "ours-1"})
    async with connected(database_url) as connection:
        ids = [row["id"] for row in await connection.fetch("SELECT id FROM outbox")]
    with capture_logs(processors=[merge_contextvars]) as lines:
        await container.relay.send(ids)
    [message] = await messages(queues)
    assert message.headers["request_id"] == "ours-1"
    [line] = [line for line in lines if line["event"].startswith("Sent report message")]
    assert line["request_id"] == "ours-1"


async def test_building_a_large_day_may_take_longer_than_other_requests(
    client: httpx.AsyncClient, shop: Shop, database_url: str
) -> None:
    await shop.order((await shop.product(), 1), ordered_at=NOON)
    await make_building_slow(database_url, REQUEST_SECONDS + 0.2)
    built = await client.post("/report", params={"report_date": str(DAY)})
    assert (built.status_code, built.json()["created"]) == (200, 1)
