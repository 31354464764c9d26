"""Orders from the queue share a transaction, and each has its own outcome."""

import asyncio
from typing import Any

import pytest

from app import worker
from app.container import Container
from app.queues import Queue
from harness.databases import SPOILT_ORDERS_FAIL, connected
from harness.dependencies import Dependencies
from harness.invariants import check_invariants
from harness.queues import QueueClient
from harness.shop import Shop
from tests.integration.conftest import Outcome

pytestmark = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])

_TRANSACTIONS = "SELECT count(DISTINCT xmin::text) FROM orders"


async def _outcomes(outcome: Outcome, *message_ids: str) -> list[tuple[str, str | None]]:
    found = await asyncio.gather(*map(outcome, message_ids))
    return [(message["status"], message["reason"]) for message in found]


async def test_stock_that_one_order_takes_is_gone_for_the_next(
    queues: QueueClient, container: Container, outcome: Outcome, shop: Shop, database_url: str
) -> None:
    product_id = await shop.product(stock=25)
    ids = [f"order-{number}" for number in range(40)]
    for message_id in ids:
        await queues.send(Queue.ORDER, shop.order_body((product_id, 1)), message_id)
    async with worker.consuming(container):
        found = await _outcomes(outcome, *ids)
    assert found == [("applied", None)] * 25 + [("rejected", "out-of-stock")] * 15
    assert await shop.stock(product_id) == 0
    await check_invariants(database_url)
    async with connected(database_url) as connection:
        assert await connection.fetchval(_TRANSACTIONS) < 25


async def test_each_order_has_the_outcome_it_would_have_alone(
    queues: QueueClient,
    container: Container,
    outcome: Outcome,
    shop: Shop,
    dependencies: Dependencies,
) -> None:
    product_id = await shop.product(stock=10)
    await shop.order((product_id, 1), external_id="taken")
    good = shop.order_body((product_id, 1))
    orders: dict[str, Any] = {
        "good": good,
        "stranger": good | {"user_id": 999_999},
        "twice": good | {"external_id": "new"},
        "twice again": good | {"external_id": "new"},
        "taken": good | {"external_id": "taken"},
        "too much": shop.order_body((product_id, 8)),
        "the rest": shop.order_body((product_id, 7)),
    }
    for message_id, body in orders.items():
        await queues.send(Queue.ORDER, body, message_id)
        await queues.send(Queue.ORDER, body, message_id)  # a repeat, most likely in the same batch
    async with worker.consuming(container):
        found = dict(zip(orders, await _outcomes(outcome, *orders), strict=True))
    assert found == {
        "good": ("applied", None),
        "stranger": ("rejected", "not-found"),
        "twice": ("applied", None),
        "twice again": ("rejected", "duplicate"),
        "taken": ("rejected", "duplicate"),
        "too much": ("rejected", "out-of-stock"),
        "the rest": ("applied", None),
    }
    assert (await outcome("too much"))["facts"] == {
        "short": [{"product_id": product_id, "wanted": 8, "in_stock": 7}]
    }
    assert await shop.stock(product_id) == 0
    await check_invariants(dependencies.database_url)


async def test_an_order_that_fails_does_not_affect_the_others(
    queues: QueueClient, container: Container, outcome: Outcome, shop: Shop, database_url: str
) -> None:
    product_id = await shop.product(stock=100)
    async with connected(database_url) as connection:
        await connection.execute(SPOILT_ORDERS_FAIL)
    ids = [f"order-{number}" for number in range(10)]
    for message_id in [*ids[:5], "spoilt", *ids[5:]]:
        fields = {"external_id": "spoilt"} if message_id == "spoilt" else {}
        await queues.send(Queue.ORDER, shop.order_body((product_id, 1), **fields), message_id)
    async with worker.consuming(container):
        assert await _outcomes(outcome, *ids) == [("applied", None)] * 10
        attempts = [(await outcome(message_id))["attempts"] for message_id in ids]
        assert attempts == [0] * 10  # the failure is counted for the spoilt message alone
        assert await _outcomes(outcome, "spoilt") == [("dead", "failure")]
        dead = await queues.take(Queue.ORDER.dead)
    assert (dead.message_id, dead.headers["x-attempts"]) == ("spoilt", "5")
    assert await shop.stock(product_id) == 90
