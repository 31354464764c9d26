"""The effects of valid messages, over both transports."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from app import worker
from app.container import Container
from harness.dependencies import Dependencies
from harness.invariants import check_invariants
from harness.queues import QueueClient
from harness.shop import Shop
from harness.waiting import eventually
from tests.integration.conftest import Outcome

pytestmark = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])

PRODUCT = {
    "sku": "TEA-001",
    "name": "Green tea, 100 g",
    "description": "Sencha from Uji",
    "price": "19.90",
    "stock_quantity": 50,
}


@pytest.mark.usefixtures("consumers")
async def test_a_product_message_creates_a_product(
    queues: QueueClient, outcome: Outcome, client: httpx.AsyncClient
) -> None:
    await queues.send("product", PRODUCT, "make")
    applied = await outcome("make")
    assert (applied["queue"], applied["status"], applied["reason"]) == ("product", "applied", None)
    made = (await client.get(f"/products/{applied['result_id']}")).json()
    assert {name: made[name] for name in PRODUCT} == PRODUCT


@pytest.mark.usefixtures("consumers")
async def test_a_product_update_changes_the_named_fields_only(
    queues: QueueClient, outcome: Outcome, client: httpx.AsyncClient
) -> None:
    await queues.send("product", PRODUCT, "make")
    product_id = (await outcome("make"))["result_id"]
    change = {"product_id": product_id, "price": 18, "description": None}
    await queues.send("product_update", change, "change")
    applied = await outcome("change")
    assert (applied["status"], applied["result_id"]) == ("applied", product_id)
    changed = (await client.get(f"/products/{product_id}")).json()
    expected = PRODUCT | {"price": "18.00", "description": None}
    assert {name: changed[name] for name in PRODUCT} == expected
    assert changed["updated_at"] is not None


@pytest.mark.usefixtures("consumers")
async def test_an_order_is_placed_and_updated(
    queues: QueueClient,
    outcome: Outcome,
    client: httpx.AsyncClient,
    shop: Shop,
    dependencies: Dependencies,
) -> None:
    product_id = await shop.product(stock=50, price="19.90")
    body = shop.order_body(
        (product_id, 2), (product_id, 3), ordered_at="2025-12-16T12:50:00", external_id="10248"
    )
    await queues.send("order", body, "order")
    applied = await outcome("order")
    assert applied["status"] == "applied"
    order = (await client.get(f"/orders/{applied['result_id']}")).json()
    assert order["items"] == [{"product_id": product_id, "quantity": 5, "unit_price": "19.90"}]
    assert (order["status"], order["total_price"]) == ("pending", "99.50")
    assert (order["ordered_at"], order["external_id"]) == ("2025-12-16T12:50:00", "10248")
    assert await shop.stock(product_id) == 45

    await queues.send("order_update", {"order_id": order["id"], "status": "processing"}, "step")
    applied = await outcome("step")
    assert (applied["status"], applied["result_id"]) == ("applied", order["id"])
    assert (await client.get(f"/orders/{order['id']}")).json()["status"] == "processing"
    await check_invariants(dependencies.database_url)


async def test_a_message_sent_before_the_first_start_is_applied(
    queues: QueueClient, outcome: Outcome, container: Container
) -> None:
    await queues.send("product", PRODUCT, "early")
    async with worker.consuming(container):
        assert (await outcome("early"))["status"] == "applied"
    assert await queues.count("product") == 0


@pytest.mark.usefixtures("consumers")
async def test_the_outcome_is_sent_to_reply_to(
    queues: QueueClient, shop: Shop, outcome: Outcome
) -> None:
    address, replies = await queues.reply_address()
    await queues.send("product", PRODUCT, "answer-me", reply_to=address)
    reply = json.loads(await asyncio.wait_for(replies.get(), 10))
    assert reply == await outcome("answer-me")

    await queues.send("order", shop.order_body((reply["result_id"], 51)), "too-many", address)
    reply = json.loads(await asyncio.wait_for(replies.get(), 10))
    assert (reply["status"], reply["reason"]) == ("rejected", "out-of-stock")

    await queues.send("order", b"{", "broken", address)
    reply = json.loads(await asyncio.wait_for(replies.get(), 10))
    assert (reply["status"], reply["reason"]) == ("dead", "decode")


@pytest.mark.usefixtures("consumers")
async def test_a_reply_that_cannot_arrive_does_no_harm(
    queues: QueueClient, outcome: Outcome, client: httpx.AsyncClient
) -> None:
    await queues.send("product", PRODUCT, "no-such-queue", reply_to="nowhere")
    assert (await outcome("no-such-queue"))["status"] == "applied"
    await queues.send("product", PRODUCT | {"sku": "TEA-002"}, "next")
    assert (await outcome("next"))["status"] == "applied"
    assert (await client.get("/products")).json()["total"] == 2


async def test_a_message_without_an_id_is_applied_once(
    queues: QueueClient, client: httpx.AsyncClient, container: Container, shop: Shop
) -> None:
    product_id = await shop.product(stock=10)
    async with worker.consuming(container):
        await queues.send("order", shop.order_body((product_id, 4)))
        await eventually(lambda: _total(client, "/orders"))
    assert await shop.stock(product_id) == 6
    assert await queues.count("order") == await queues.count("order.dead") == 0


@pytest.mark.usefixtures("consumers")
async def test_the_log_warns_when_a_product_runs_out_of_stock(
    queues: QueueClient, outcome: Outcome, shop: Shop
) -> None:
    ordered, emptied = await shop.product(stock=2), await shop.product(stock=2)
    with capture_logs() as lines:
        await queues.send("order", shop.order_body((ordered, 2)), "last-pieces")
        await outcome("last-pieces")
        await queues.send("product_update", {"product_id": emptied, "stock_quantity": 0}, "empty")
        await outcome("empty")
    warnings = [line for line in lines if line["event"] == "product is out of stock"]
    assert [(line["log_level"], line["product_id"]) for line in warnings] == [
        ("warning", ordered),
        ("warning", emptied),
    ]


async def _total(client: httpx.AsyncClient, path: str) -> Any:
    return (await client.get(path)).json()["total"]
