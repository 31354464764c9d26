"""Messages whose properties no client library can read, on their way through RabbitMQ."""

import asyncio
import random
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import aio_pika
import httpx
import pytest

from app import worker
from app.container import Container
from app.queues import Queue
from harness.amqp_bytes import Bytes, long, short, some_properties
from harness.bare_amqp import publish_properties
from harness.queues import QueueClient, as_bytes
from harness.rabbitmq import RabbitMQ
from harness.waiting import eventually
from tests.integration.conftest import Outcome

# What RabbitMQ looks at itself, and refuses if it is not as it should be.
_READ_BY_RABBITMQ = {"expiration", "user_id", "delivery_mode"}
_BINARY = short(b"\xff\xfe\xfd\xfc")
_MICROSECONDS = struct.pack(">Q", 1_760_000_000_000_000)


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


def _table(*headers: bytes) -> dict[str, bytes]:
    return {"headers": long(b"".join(headers))}


UNREADABLE = {
    "a header key": _table(short(b"\xff\xfe") + b"t\1"),
    "a header key behind others": _table(short(b"a") + b"t\1", short(b"\xff") + b"t\1"),
    "a time in microseconds": _table(short(b"when") + b"T" + _MICROSECONDS),
    "a time in a nested table": _table(
        short(b"a") + b"F" + long(short(b"b") + b"A" + long(b"T" + _MICROSECONDS))
    ),
    "a thousand nested lists": _table(
        short(b"a") + b"".join(b"A" + struct.pack(">I", 5 * n) for n in range(1000, -1, -1))
    ),
    "the timestamp": {"timestamp": _MICROSECONDS},
    "the correlation id": {"correlation_id": _BINARY},
    "reply_to": {"reply_to": _BINARY},
    "the content type": {"content_type": _BINARY},
    "the content encoding": {"content_encoding": _BINARY},
    "the type": {"message_type": _BINARY},
    "the application": {"app_id": _BINARY},
    "the cluster": {"cluster_id": _BINARY},
    "all of them": dict.fromkeys(
        ("content_type", "content_encoding", "correlation_id", "reply_to", "message_type"), _BINARY
    )
    | {"timestamp": _MICROSECONDS}
    | _table(short(b"\xff") + b"T" + _MICROSECONDS),
    "the message id itself": {"message_id": _BINARY},
}


async def _send(rabbitmq: RabbitMQ, body: Any, wire: Mapping[str, bytes]) -> None:
    arguments = rabbitmq.url, Queue.PRODUCT, as_bytes(body), Bytes(wire)
    await asyncio.to_thread(publish_properties, *arguments)


def _product(sku: str) -> dict[str, Any]:
    return {"sku": sku, "name": "Tea", "price": "1.00", "stock_quantity": 1}


@pytest.mark.usefixtures("consumers")
async def test_an_unreadable_property_does_not_cost_the_message_id(
    rabbitmq: RabbitMQ, outcome: Outcome, queues: QueueClient, client: httpx.AsyncClient
) -> None:
    for number, wire in enumerate(UNREADABLE.values()):
        known = {"message_id": short(f"m{number}".encode())} | wire
        for _ in range(2):
            await _send(rabbitmq, _product(f"sku-{number}"), known)
    ids = [f"m{number}" for number in range(len(UNREADABLE) - 1)] + ["\\xff\\xfe\\xfd\\xfc"]
    assert [(await outcome(id))["status"] for id in ids] == ["applied"] * len(UNREADABLE)

    async def drained() -> bool:
        return await queues.count(Queue.PRODUCT) == 0

    await eventually(drained)
    assert (await client.get("/products")).json()["total"] == len(UNREADABLE)
    assert await queues.count(Queue.PRODUCT.dead) == 0


async def test_messages_with_properties_of_random_bytes_are_applied_once(
    rabbitmq: RabbitMQ, container: Container, outcome: Outcome, queues: QueueClient
) -> None:
    chance, accepted = random.Random(5), []
    await queues.declare(Queue.PRODUCT)
    for number in range(60):
        wire = some_properties(chance)
        known = {name: data for name, data in wire.items() if name not in _READ_BY_RABBITMQ}
        known["message_id"] = short(f"m{number}".encode())
        try:
            for _ in range(2):
                await _send(rabbitmq, _product(f"sku-{number}"), known)
        except AssertionError:  # RabbitMQ refuses it
            continue
        accepted.append(f"m{number}")
    assert len(accepted) > 40

    async def drained() -> bool:
        return await queues.count(Queue.PRODUCT) == 0

    async with worker.consuming(container):
        found = [await outcome(message_id) for message_id in accepted]
        await eventually(drained)
    assert {message["status"] for message in found} == {"applied"}
    assert await queues.count(Queue.PRODUCT) == await queues.count(Queue.PRODUCT.dead) == 0


async def test_a_delivery_mode_that_nobody_knows_stops_nothing(
    rabbitmq: RabbitMQ, container: Container, outcome: Outcome, queues: QueueClient
) -> None:
    await queues.declare(Queue.PRODUCT)
    try:
        await _send(rabbitmq, _product("odd"), {"message_id": short(b"odd"), "delivery_mode": b"7"})
        sent = ["odd", "next"]
    except AssertionError:  # RabbitMQ refuses it
        sent = ["next"]
    await queues.send(Queue.PRODUCT, _product("next"), "next")
    async with worker.consuming(container):
        assert [(await outcome(id))["status"] for id in sent] == ["applied"] * len(sent)


@pytest.mark.usefixtures("consumers")
async def test_a_dead_letter_has_every_byte_that_can_be_sent_on(
    rabbitmq: RabbitMQ, queues: QueueClient
) -> None:
    sent = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    async with await aio_pika.connect(rabbitmq.url) as connection:
        channel = await connection.channel()
        other = await channel.declare_queue("other", exclusive=True)
        message = aio_pika.Message(
            b"{",
            content_encoding="identity",
            priority=3,
            expiration=60,
            timestamp=sent,
            type="product.new",
            app_id="till-7",
            user_id="guest",
            headers={"price": 19.9, "CC": ["other"], "nested": {"a": [1, None, "x"]}},
        )
        await channel.default_exchange.publish(message, routing_key=Queue.PRODUCT)
        dead = await channel.get_queue(Queue.PRODUCT.dead)
        letter = await eventually(lambda: dead.get(fail=False))
        await letter.ack()
        known = (letter.content_encoding, letter.priority, letter.type, letter.app_id)
        assert known == ("identity", 3, "product.new", "till-7")
        assert (letter.timestamp, letter.expiration, letter.user_id) == (sent, None, None)
        assert letter.headers["x-original-expiration"] == "60000"
        assert letter.headers["x-original-user-id"] == "guest"
        assert letter.headers["nested"] == {"a": [1, None, "x"]}
        # The sender's own copy alone: the dead letter was not sent to the other queue too.
        assert await other.get(no_ack=True)
        assert await other.get(no_ack=True, fail=False) is None
