"""Rejected messages are recorded with the reason and acknowledged, and change nothing."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from app import worker
from app.container import Container
from app.queues import Queue
from app.schemas.orders import OrderStatus
from harness.databases import connected
from harness.dependencies import Dependencies
from harness.queues import QueueClient
from harness.shop import Shop
from tests.integration.conftest import Outcome

pytestmark = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])

UNKNOWN = 999_999


@dataclass
class Refusal:
    queue: Queue
    body: dict[str, Any]
    reason: str
    detail: str
    facts: dict[str, Any] | None = None


async def too_little_stock(shop: Shop) -> Refusal:
    enough, short, gone = [await shop.product(stock) for stock in (10, 4, 0)]
    return Refusal(
        Queue.ORDER,
        shop.order_body((enough, 10), (short, 3), (gone, 1), (short, 2)),
        "out-of-stock",
        f"not enough stock: product {short} (wanted 5, in stock 4), "
        f"product {gone} (wanted 1, in stock 0)",
        {
            "short": [
                {"product_id": short, "wanted": 5, "in_stock": 4},
                {"product_id": gone, "wanted": 1, "in_stock": 0},
            ]
        },
    )


async def unknown_user(shop: Shop) -> Refusal:
    body = shop.order_body((await shop.product(), 1)) | {"user_id": UNKNOWN}
    return Refusal(Queue.ORDER, body, "not-found", f"user {UNKNOWN} does not exist")


async def unknown_address(shop: Shop) -> Refusal:
    body = shop.order_body((await shop.product(), 1)) | {"delivery_address_id": UNKNOWN}
    detail = f"address {UNKNOWN} of user {shop.user_id} does not exist"
    return Refusal(Queue.ORDER, body, "not-found", detail)


async def address_of_another_user(shop: Shop) -> Refusal:
    stranger = await shop.user()
    body = shop.order_body((await shop.product(), 1)) | {"user_id": stranger}
    detail = f"address {shop.address_id} of user {stranger} does not exist"
    return Refusal(Queue.ORDER, body, "not-found", detail)


async def unknown_product(shop: Shop) -> Refusal:
    body = shop.order_body((await shop.product(), 1), (UNKNOWN, 1))
    return Refusal(Queue.ORDER, body, "not-found", f"product {UNKNOWN} does not exist")


async def used_external_id(shop: Shop) -> Refusal:
    product = await shop.product()
    await shop.order((product, 1), external_id="10248")
    body = shop.order_body((product, 1), external_id="10248")
    detail = "this external_id is already taken"
    return Refusal(Queue.ORDER, body, "duplicate", detail, {"field": "external_id"})


async def used_sku(shop: Shop) -> Refusal:
    await shop.product(sku="TEA-001")
    body = {"sku": "TEA-001", "name": "Tea", "price": "1.00", "stock_quantity": 1}
    detail = "this sku is already taken"
    return Refusal(Queue.PRODUCT, body, "duplicate", detail, {"field": "sku"})


async def update_of_an_unknown_product(_: Shop) -> Refusal:
    body = {"product_id": UNKNOWN, "price": "1.00"}
    return Refusal(Queue.PRODUCT_UPDATE, body, "not-found", f"product {UNKNOWN} does not exist")


async def update_of_an_unknown_order(_: Shop) -> Refusal:
    body = {"order_id": UNKNOWN, "status": "processing"}
    return Refusal(Queue.ORDER_UPDATE, body, "not-found", f"order {UNKNOWN} does not exist")


async def illegal_step(shop: Shop) -> Refusal:
    order = await shop.order((await shop.product(), 1))
    await shop.change_status(order.id, OrderStatus.CANCELLED)
    body = {"order_id": order.id, "status": "delivered"}
    detail = "an order that is cancelled cannot become delivered"
    return Refusal(Queue.ORDER_UPDATE, body, "illegal-step", detail, {"status": "cancelled"})


REFUSALS: list[Callable[[Shop], Awaitable[Refusal]]] = [
    too_little_stock,
    unknown_user,
    unknown_address,
    address_of_another_user,
    unknown_product,
    used_external_id,
    used_sku,
    update_of_an_unknown_product,
    update_of_an_unknown_order,
    illegal_step,
]


@pytest.mark.parametrize("prepare", REFUSALS, ids=lambda prepare: prepare.__name__)
async def test_a_refusal_is_recorded_and_changes_nothing(
    prepare: Callable[[Shop], Awaitable[Refusal]],
    container: Container,
    queues: QueueClient,
    outcome: Outcome,
    shop: Shop,
    dependencies: Dependencies,
) -> None:
    refusal = await prepare(shop)
    before = await _shop_tables(dependencies.database_url)
    with capture_logs() as lines:
        async with worker.consuming(container):
            await queues.send(refusal.queue, refusal.body, "refused")
            found = await outcome("refused")
    assert (found["status"], found["queue"]) == ("rejected", refusal.queue)
    assert (found["reason"], found["detail"]) == (refusal.reason, refusal.detail)
    assert (found["facts"], found["result_id"]) == (refusal.facts, None)
    assert await _shop_tables(dependencies.database_url) == before
    # Acknowledged: not in the queue for another attempt, and not in the dead queue.
    assert await queues.count(refusal.queue) == 0
    assert await queues.count(refusal.queue.dead) == 0
    [warning] = [line for line in lines if line["event"] == "message refused"]
    assert (warning["log_level"], warning["reason"]) == ("warning", refusal.reason)


async def _shop_tables(database_url: str) -> dict[str, list[asyncpg.Record]]:
    async with connected(database_url) as connection:
        return {
            table: await connection.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")
            for table in ("products", "orders", "order_items", "stock_movements", "outbox")
        }
