"""A message takes effect once, however often it is delivered."""

import asyncio
from typing import Any

import httpx
import pytest

from app import worker
from app.container import Container
from app.queues import Queue
from harness.dependencies import Dependencies
from harness.invariants import check_invariants
from harness.queues import QueueClient
from harness.shop import Shop
from harness.waiting import eventually
from tests.integration.conftest import Outcome

pytestmark = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])


async def _drained(queues: QueueClient, queue: Queue) -> None:
    async def is_empty() -> bool:
        return await queues.count(queue) == 0

    await eventually(is_empty)


async def test_a_repeated_order_is_placed_once(
    queues: QueueClient, container: Container, outcome: Outcome, shop: Shop
) -> None:
    product_id = await shop.product(stock=10)
    async with worker.consuming(container):
        await queues.send(Queue.ORDER, shop.order_body((product_id, 3)), "once")
        first = await outcome("once")
        for _ in range(3):
            await queues.send(Queue.ORDER, shop.order_body((product_id, 3)), "once")
        await _drained(queues, Queue.ORDER)
    assert await queues.count(Queue.ORDER) == await queues.count(Queue.ORDER.dead) == 0
    assert await outcome("once") == first
    assert await shop.stock(product_id) == 7


async def test_copies_received_by_two_workers_at_once_take_effect_once(
    queues: QueueClient,
    container: Container,
    client: httpx.AsyncClient,
    shop: Shop,
    dependencies: Dependencies,
) -> None:
    products = [await shop.product(stock=100) for _ in range(5)]
    body = shop.order_body(*((product_id, 1) for product_id in products))
    for number in range(20):
        for _ in range(4):
            await queues.send(Queue.ORDER, body, f"order-{number}")
    async with (
        Container.open(dependencies.settings()) as other,
        worker.consuming(container),
        worker.consuming(other),
    ):
        await _drained(queues, Queue.ORDER)
    assert await queues.count(Queue.ORDER) == await queues.count(Queue.ORDER.dead) == 0
    assert (await client.get("/orders")).json()["total"] == 20
    assert {await shop.stock(product_id) for product_id in products} == {80}
    await check_invariants(dependencies.database_url)


async def test_a_rejected_order_stays_rejected_when_it_is_sent_again(
    queues: QueueClient, container: Container, outcome: Outcome, shop: Shop
) -> None:
    """The outcome of an id is final: a sender that wants to try again uses a new id."""
    product_id = await shop.product(stock=1)
    body = shop.order_body((product_id, 2))
    async with worker.consuming(container):
        await queues.send(Queue.ORDER, body, "refused")
        first = await outcome("refused")
        await queues.send(
            Queue.PRODUCT_UPDATE, {"product_id": product_id, "stock_quantity": 5}, "refilled"
        )
        assert (await outcome("refilled"))["status"] == "applied"
        await queues.send(Queue.ORDER, body, "refused")
        await queues.send(Queue.ORDER, body, "new")
        assert (await outcome("new"))["status"] == "applied"
        await _drained(queues, Queue.ORDER)
    assert await outcome("refused") == first
    assert await shop.stock(product_id) == 3


@pytest.mark.usefixtures("consumers")
async def test_the_same_id_in_two_queues_is_two_messages(
    queues: QueueClient, outcome: Outcome, client: httpx.AsyncClient, shop: Shop
) -> None:
    product_id = await shop.product(stock=10)
    await queues.send(Queue.ORDER, shop.order_body((product_id, 1)), "same")
    assert (await outcome("same"))["queue"] == "order"
    body = {"product_id": product_id, "price": "2.00"}
    await queues.send(Queue.PRODUCT_UPDATE, body, "same")

    async def newest() -> Any:
        return (await outcome("same"))["queue"] == "product_update"

    await eventually(newest)
    assert (await client.get(f"/products/{product_id}")).json()["price"] == "2.00"


async def test_a_dead_message_may_be_corrected_and_sent_again(
    queues: QueueClient, container: Container, outcome: Outcome, shop: Shop
) -> None:
    product_id = await shop.product(stock=10)
    async with worker.consuming(container):
        await queues.send(Queue.ORDER, b"{}", "mended")
        assert (await outcome("mended"))["status"] == "dead"
        await queues.send(Queue.ORDER, shop.order_body((product_id, 1)), "mended")

        async def is_applied() -> Any:
            return (await outcome("mended"))["status"] == "applied"

        await eventually(is_applied)
    assert (await outcome("mended"))["reason"] is None
    assert await shop.stock(product_id) == 9


async def test_two_cancellations_at_once_restock_once(
    queues: QueueClient, container: Container, outcome: Outcome, shop: Shop
) -> None:
    product_id = await shop.product(stock=10)
    order = await shop.order((product_id, 4))
    body = {"order_id": order.id, "status": "cancelled"}
    for message_id in ("one", "two"):
        await queues.send(Queue.ORDER_UPDATE, body, message_id)
    async with worker.consuming(container):
        found = await asyncio.gather(outcome("one"), outcome("two"))
    assert sorted(message["status"] for message in found) == ["applied", "rejected"]
    assert await shop.stock(product_id) == 10


async def test_a_repeated_old_update_does_not_undo_a_newer_one(
    queues: QueueClient, container: Container, outcome: Outcome, shop: Shop
) -> None:
    product_id = await shop.product(stock=10)
    async with worker.consuming(container):
        for message_id, price in (("old", "1.00"), ("new", "2.00"), ("old", "1.00")):
            body = {"product_id": product_id, "price": price}
            await queues.send(Queue.PRODUCT_UPDATE, body, message_id)
            assert (await outcome(message_id))["status"] == "applied"
        await _drained(queues, Queue.PRODUCT_UPDATE)
    assert f"{(await shop.read_product(product_id)).price}" == "2.00"
