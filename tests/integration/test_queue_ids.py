"""A message id belongs to one body."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from app import worker
from app.container import Container
from app.queues import Queue
from harness.databases import SPOILT_ORDERS_FAIL, connected
from harness.queues import QueueClient
from harness.shop import Shop
from harness.waiting import eventually
from tests.integration.conftest import Outcome

pytestmark = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])

PRODUCT = {"sku": "TEA-001", "name": "Tea", "price": "1.00", "stock_quantity": 1}


async def _reason(queues: QueueClient, queue: Queue) -> Any:
    return (await queues.take(queue.dead)).headers["x-reason"]


@pytest.mark.usefixtures("consumers")
async def test_another_body_under_a_used_id_is_dead_and_the_first_outcome_stays(
    queues: QueueClient, outcome: Outcome, client: httpx.AsyncClient, shop: Shop
) -> None:
    product_id = await shop.product(stock=10)
    address, replies = await queues.reply_address()
    await queues.send(Queue.ORDER, shop.order_body((product_id, 1)), "order-1001", address)
    ours = json.loads(await asyncio.wait_for(replies.get(), 10))
    for body in (shop.order_body((product_id, 7)), b"{", {}):
        await queues.send(Queue.ORDER, body, "order-1001", address)
        theirs = json.loads(await asyncio.wait_for(replies.get(), 10))
        assert (theirs["status"], theirs["result_id"]) == ("dead", None)
    reasons = [await _reason(queues, Queue.ORDER) for _ in range(3)]
    assert reasons == ["id-reused", "decode", "validation"]
    assert await outcome("order-1001") == ours
    assert await shop.stock(product_id) == 9


@pytest.mark.usefixtures("consumers")
async def test_another_body_under_the_id_of_a_refused_one_is_dead(
    queues: QueueClient, outcome: Outcome, shop: Shop
) -> None:
    product_id = await shop.product(stock=1)
    await queues.send(Queue.ORDER, shop.order_body((product_id, 2)), "id")
    first = await outcome("id")
    await queues.send(Queue.ORDER, shop.order_body((product_id, 1)), "id")
    assert await _reason(queues, Queue.ORDER) == "id-reused"
    assert await outcome("id") == first
    await queues.send(Queue.PRODUCT, PRODUCT, "p")
    await outcome("p")
    await queues.send(Queue.PRODUCT, PRODUCT | {"price": "2.00"}, "p")
    assert await _reason(queues, Queue.PRODUCT) == "id-reused"


async def test_two_bodies_with_one_id_in_one_batch_are_told_apart(
    queues: QueueClient, container: Container, outcome: Outcome, shop: Shop
) -> None:
    product_id = await shop.product(stock=100)
    for number in range(20):
        for quantity in (1, 2, 1):
            body = shop.order_body((product_id, quantity))
            await queues.send(Queue.ORDER, body, f"order-{number}")
    async with worker.consuming(container):
        reasons = [await _reason(queues, Queue.ORDER) for _ in range(20)]
        found = [(await outcome(f"order-{number}"))["status"] for number in range(20)]
    assert reasons == ["id-reused"] * 20
    assert found == ["applied"] * 20
    assert await queues.count(Queue.ORDER) == await queues.count(Queue.ORDER.dead) == 0
    assert await shop.stock(product_id) == 80  # in each case the first body


@pytest.mark.usefixtures("consumers")
async def test_the_same_body_in_other_words_is_a_repeat(
    queues: QueueClient, outcome: Outcome, shop: Shop
) -> None:
    product_id = await shop.product(stock=10)
    body = shop.order_body((product_id, 1))
    await queues.send(Queue.ORDER, body, "id")
    await outcome("id")
    reordered = json.dumps(dict(reversed(body.items())), indent=2).encode()
    await queues.send(Queue.ORDER, reordered, "id")

    async def is_empty() -> bool:
        return await queues.count(Queue.ORDER) == 0

    await eventually(is_empty)
    assert await queues.count(Queue.ORDER.dead) == 0
    assert await shop.stock(product_id) == 9


async def test_another_body_does_not_take_the_id_of_a_failing_one(
    queues: QueueClient, container: Container, outcome: Outcome, shop: Shop, database_url: str
) -> None:
    product_id = await shop.product(stock=10)
    async with connected(database_url) as connection:
        await connection.execute(SPOILT_ORDERS_FAIL)
    async with worker.consuming(container):
        spoilt = shop.order_body((product_id, 1), external_id="spoilt")
        await queues.send(Queue.ORDER, spoilt, "id")

        async def is_failing() -> Any:
            async with connected(database_url) as connection:
                return await connection.fetchval("SELECT attempts FROM messages")

        await eventually(is_failing)
        await queues.send(Queue.ORDER, shop.order_body((product_id, 1)), "id")
        assert await _reason(queues, Queue.ORDER) == "id-reused"
        assert await _reason(queues, Queue.ORDER) == "failure"
        found = await outcome("id")
    assert (found["status"], found["reason"], found["attempts"]) == ("dead", "failure", 5)
    assert await shop.stock(product_id) == 10


@pytest.mark.usefixtures("consumers")
async def test_a_message_from_before_there_were_fingerprints_is_known_by_its_id(
    queues: QueueClient, outcome: Outcome, database_url: str, client: httpx.AsyncClient
) -> None:
    async with connected(database_url) as connection:
        await connection.execute(
            "INSERT INTO messages (message_id, queue, status, finished_at) "
            "VALUES ('old', 'product', 'applied', now())"
        )
    address, replies = await queues.reply_address()
    await queues.send(Queue.PRODUCT, PRODUCT, "old", address)
    reply = json.loads(await asyncio.wait_for(replies.get(), 10))
    assert reply == await outcome("old")
    assert (await client.get("/products")).json()["total"] == 0


@pytest.mark.usefixtures("consumers")
async def test_a_header_that_is_not_text_does_not_cost_the_message_id(
    transport: str, queues: QueueClient, outcome: Outcome, client: httpx.AsyncClient
) -> None:
    if transport == "rabbitmq":
        pytest.skip("its own are in test_rabbitmq_properties.py")
    odd: Any = {b"\xff": b"\xfe", "other": b"\xff"}
    for _ in range(2):
        await queues.send(Queue.PRODUCT, PRODUCT, "id", headers=odd)
    assert (await outcome("id"))["status"] == "applied"
    await queues.send(Queue.PRODUCT, PRODUCT | {"sku": "next"}, "next")
    await outcome("next")
    assert (await client.get("/products")).json()["total"] == 2
    assert await queues.count(Queue.PRODUCT.dead) == 0


@pytest.mark.usefixtures("consumers")
async def test_headers_that_a_client_has_written_too_short_do_not_make_a_message_without_id(
    transport: str, queues: QueueClient, client: httpx.AsyncClient
) -> None:
    """FastStream's client writes the number of characters, not of bytes: what follows is lost."""
    if transport == "rabbitmq":
        pytest.skip("only streams have such headers")
    for value in ("ж", "жж", "жжж"):
        body = PRODUCT | {"sku": value}
        await queues.send(Queue.PRODUCT, body, "id", headers={"odd": value, "more": "\0" * 9})
        assert await _reason(queues, Queue.PRODUCT) == "decode"
    assert (await client.get("/products")).json()["total"] == 0


@pytest.mark.usefixtures("consumers")
@pytest.mark.parametrize("own", ["order", "order.dead", "report", "report.dead", "taskiq"])
async def test_a_reply_to_a_queue_of_the_service_is_not_sent(
    own: str, queues: QueueClient, outcome: Outcome, transport: str
) -> None:
    if transport == "rabbitmq":  # else a reply to it would be lost, and prove nothing
        await queues.declare(own)
    await queues.send(Queue.PRODUCT, PRODUCT, "id", reply_to=own)
    assert (await outcome("id"))["status"] == "applied"
    await queues.send(Queue.PRODUCT, PRODUCT | {"sku": "next"}, "next")
    await outcome("next")
    assert await queues.count(own) == 0


@pytest.mark.usefixtures("consumers")
@pytest.mark.parametrize("message_id", ["a/b", "/a", "a//b", "..", "a/../b", "?", "a%2Fb", "é/ж"])
async def test_a_message_with_any_id_can_be_asked_for(
    message_id: str, queues: QueueClient, client: httpx.AsyncClient, transport: str
) -> None:
    if transport == "streams" and not message_id.isascii():
        pytest.skip("FastStream's clients cut ids that are not ASCII")
    await queues.send(Queue.PRODUCT, PRODUCT, message_id)

    async def found() -> Any:
        response = await client.get("/messages", params={"id": message_id})
        return response.json()["messages"]

    assert [message["message_id"] for message in await eventually(found)] == [message_id]
    for wrong in ("", "a\0"):
        refused = await client.get("/messages", params={"id": wrong})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "id")
    assert (await client.get("/messages?id=nobody/s")).json() == {"messages": []}
