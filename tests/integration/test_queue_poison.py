"""Messages that can never be applied end in `<queue>.dead`, unchanged, with the reason."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx
import pytest
from structlog.testing import capture_logs

from app import worker
from app.consumers.parsing import MOST_BYTES
from app.container import Container
from app.queues import Queue
from harness.databases import connected
from harness.dependencies import Dependencies
from harness.queues import QueueClient, as_bytes
from harness.shop import Shop
from tests.integration.conftest import Outcome

pytestmark = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])

PRODUCT = {"name": "Green tea", "price": "19.90", "stock_quantity": 5}
LINE = {"product_id": 1, "quantity": 1}
ORDER = {"user_id": 1, "delivery_address_id": 1, "items": [LINE]}

_FAILING_UPDATES = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$;
CREATE TRIGGER fail BEFORE UPDATE ON products FOR EACH ROW EXECUTE FUNCTION fail();
"""


class Poison(NamedTuple):
    reason: str
    field: str
    queue: Queue
    body: Any


POISONS = {
    "bytes that are no text": Poison("decode", "", Queue.ORDER, b"\xff\xfe\x00"),
    "truncated JSON": Poison("decode", "", Queue.ORDER, b'{"user_id": 1, "items": [{"prod'),
    "nothing": Poison("decode", "", Queue.PRODUCT, b""),
    "a lone surrogate": Poison("decode", "", Queue.PRODUCT, b'{"name": "\\ud800"}'),
    "a number of 5,000 digits": Poison(
        "decode", "", Queue.PRODUCT_UPDATE, b'{"product_id": 1%s}' % (b"0" * 5000)
    ),
    "a megabyte of brackets": Poison("decode", "", Queue.ORDER, b"[" * MOST_BYTES),
    "a list": Poison("validation", "", Queue.ORDER, b"[]"),
    "null": Poison("validation", "", Queue.ORDER_UPDATE, b"null"),
    "a missing field": Poison("validation", "name", Queue.PRODUCT, PRODUCT | {"name": None}),
    "an unknown field": Poison("validation", "colour", Queue.PRODUCT, PRODUCT | {"colour": "red"}),
    "an unknown field with NUL in its name": Poison(
        "validation", "a?b", Queue.PRODUCT, PRODUCT | {"a\0b": 1}
    ),
    "an unknown field with a very long name": Poison(
        "validation", "x" * 200, Queue.PRODUCT, PRODUCT | {"x" * 200_000: 1}
    ),
    "a price of words": Poison("validation", "price", Queue.PRODUCT, PRODUCT | {"price": "ten"}),
    "NaN": Poison("decode", "", Queue.PRODUCT, PRODUCT | {"price": float("nan")}),
    "a price beyond all numbers": Poison(
        "validation",
        "price",
        Queue.PRODUCT,
        b'{"name": "Tea", "price": 1e400, "stock_quantity": 1}',
    ),
    "negative stock": Poison(
        "validation", "stock_quantity", Queue.PRODUCT, PRODUCT | {"stock_quantity": -1}
    ),
    "NUL": Poison("validation", "name", Queue.PRODUCT, PRODUCT | {"name": "a\0b"}),
    "no lines": Poison("validation", "items", Queue.ORDER, ORDER | {"items": []}),
    "too many lines": Poison("validation", "items", Queue.ORDER, ORDER | {"items": [LINE] * 1001}),
    "a wrong line": Poison(
        "validation",
        "items.1.quantity",
        Queue.ORDER,
        ORDER | {"items": [LINE, LINE | {"quantity": 0}]},
    ),
    "an id beyond the column": Poison(
        "validation", "product_id", Queue.PRODUCT_UPDATE, {"product_id": 2**53}
    ),
    "an unknown status": Poison(
        "validation", "status", Queue.ORDER_UPDATE, {"order_id": 1, "status": "lost"}
    ),
    "too large": Poison("too-large", "", Queue.PRODUCT, b" " * (MOST_BYTES + 1)),
}


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS.keys())
async def test_poison_is_dead_and_the_next_message_is_applied(
    poison: Poison, container: Container, queues: QueueClient, outcome: Outcome
) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    with capture_logs() as lines:
        async with worker.consuming(container):
            await queues.send(poison.queue, poison.body, "poison")
            found = await outcome("poison")
            await queues.send(Queue.PRODUCT, PRODUCT, "next")
            assert (await outcome("next"))["status"] == "applied"
            dead = await queues.take(poison.queue.dead)
    assert await queues.count(poison.queue) == await queues.count(poison.queue.dead) == 0
    assert (found["status"], found["reason"], found["queue"]) == (
        "dead",
        poison.reason,
        poison.queue,
    )
    assert dead.body == as_bytes(poison.body)
    assert dead.message_id == "poison"
    assert dead.headers["x-reason"] == poison.reason
    assert dead.headers["x-field"] == poison.field
    assert dead.headers["x-detail"] == found["detail"]
    assert dead.headers["x-attempts"] == "1"
    assert dead.headers["x-original-queue"] == poison.queue
    assert began <= datetime.fromisoformat(dead.headers["x-first-seen"]) <= datetime.now(UTC)
    [warning] = [line for line in lines if line["event"] == "message dead"]
    assert (warning["log_level"], warning["reason"]) == ("warning", poison.reason)


@pytest.mark.usefixtures("consumers")
@pytest.mark.parametrize("message_id", ["two\nlines", "nul\0", "esc\x1b[31m"])
async def test_an_invalid_message_id_is_dead(
    message_id: str, queues: QueueClient, client: httpx.AsyncClient
) -> None:
    await queues.send(Queue.PRODUCT, PRODUCT, message_id)
    dead = await queues.take(Queue.PRODUCT.dead)
    assert (dead.headers["x-reason"], dead.message_id) == ("message-id", message_id)
    assert (await client.get("/products")).json()["total"] == 0


async def test_a_redelivery_without_an_id_is_not_applied(
    queues: QueueClient, container: Container, client: httpx.AsyncClient
) -> None:
    """The first delivery may have been applied already, and without an id nobody can tell."""
    await queues.send(Queue.PRODUCT, PRODUCT)
    await queues.deliver_and_return(Queue.PRODUCT)
    async with worker.consuming(container):
        dead = await queues.take(Queue.PRODUCT.dead)
    assert dead.headers["x-reason"] == "ambiguous-redelivery"
    assert dead.json == PRODUCT
    assert (await client.get("/products")).json()["total"] == 0


async def test_a_message_that_always_fails_is_dead_after_five_attempts(
    queues: QueueClient,
    outcome: Outcome,
    container: Container,
    shop: Shop,
    dependencies: Dependencies,
) -> None:
    """An unexpected failure: here a trigger that somebody has added to the database."""
    product_id = await shop.product()
    async with connected(dependencies.database_url) as connection:
        await connection.execute(_FAILING_UPDATES)
    async with worker.consuming(container):
        await queues.send(Queue.PRODUCT_UPDATE, {"product_id": product_id, "price": "2"}, "fails")
        found = await outcome("fails")
        dead = await queues.take(Queue.PRODUCT_UPDATE.dead)
    assert (found["status"], found["reason"], found["attempts"]) == ("dead", "failure", 5)
    assert (dead.headers["x-reason"], dead.headers["x-attempts"]) == ("failure", "5")


async def test_poison_under_a_settled_id_is_logged_as_dead(
    container: Container, queues: QueueClient, outcome: Outcome
) -> None:
    with capture_logs() as lines:
        async with worker.consuming(container):
            await queues.send(Queue.PRODUCT, PRODUCT, "same")
            assert (await outcome("same"))["status"] == "applied"
            await queues.send(Queue.PRODUCT, b"{", "same")
            await queues.take(Queue.PRODUCT.dead)
    told = [(line["event"], line.get("reason")) for line in lines]
    about_messages = [line for line in told if line[0].startswith("message ")]
    assert about_messages == [("message settled", None), ("message dead", "decode")]
