"""Every message put into a queue ends as applied, rejected or dead, and the worker goes on."""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from pamqp import frame
from redis.asyncio import Redis

from app.messaging.properties import accept_any_properties
from app.queues import CONSUMED, Queue
from harness.bare_amqp import publish_bare
from harness.queues import QueueClient
from harness.waiting import eventually
from tests.faults.invariants import take_all
from tests.faults.support.messages import PRODUCT, Hostile, hostile_messages, pickled
from tests.faults.support.system import System

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = pytest.mark.fault

both = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])
on_rabbitmq = pytest.mark.parametrize("transport", ["rabbitmq"])
on_streams = pytest.mark.parametrize("transport", ["streams"])


# Bytes in a message's properties, and the bytes that replace them.
DAMAGES = {
    "reply_to is not text": (b"ZZZZ", b"\xff\xfe\xfd\xfc"),
    "the content type is not text": (b"application/json", b"\xff" * 16),
}


async def _send(
    system: System, queues: QueueClient, messages: dict[str, Hostile]
) -> dict[Queue, list[str]]:
    published: dict[Queue, list[str]] = defaultdict(list)
    for message_id, hostile in messages.items():
        published[hostile.queue].append(message_id)
    if system.dependencies.rabbitmq:
        await _send_with_properties(system.dependencies.rabbitmq.url, messages)
    else:
        for message_id, hostile in messages.items():
            await queues.send(hostile.queue, hostile.body, message_id)
    return published


async def _send_with_properties(url: str, messages: dict[str, Hostile]) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for message_id, hostile in messages.items():
            properties = {"content_type": "application/json"} | hostile.properties
            message = aio_pika.Message(hostile.body, message_id=message_id, **properties)
            await channel.default_exchange.publish(message, routing_key=hostile.queue)


@both
async def test_every_hostile_message_gets_an_outcome(system: System, tmp_path: Path) -> None:
    made = tmp_path / "made"
    messages = hostile_messages(made)
    if system.dependencies.rabbitmq is None:  # FastStream's client truncates ids that are not ASCII
        messages = {id: hostile for id, hostile in messages.items() if id.isascii()}
    async with system.queues() as queues:
        await system.start("worker")
        published = await _send(system, queues, messages)
        await system.settled(len(messages))
        await queues.send(Queue.PRODUCT, PRODUCT, "next")
        await system.settled(len(messages) + 1)
        published[Queue.PRODUCT].append("next")
        outcomes = await system.outcomes(queues, published)
    assert outcomes == {id: hostile.status for id, hostile in messages.items()} | {
        "next": "applied"
    }
    assert not system.errors(), system.errors()
    assert not made.exists()


@on_rabbitmq
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_a_message_with_an_undecodable_property_is_dead(
    damage: tuple[bytes, bytes], system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ delivers the property as it is, and the client library must not fail on it."""
    accept_any_properties()  # the test's own client reads it too, in the dead letter
    marshal = frame.marshal

    def damaged(value: Any, channel: int) -> bytes:
        return marshal(value, channel).replace(*damage)

    rabbitmq = system.dependencies.rabbitmq
    assert rabbitmq
    async with system.queues() as queues:
        await system.start("worker")
        with monkeypatch.context() as patch:
            patch.setattr(frame, "marshal", damaged)
            await asyncio.to_thread(publish_bare, rabbitmq.url, Queue.PRODUCT, b"{}", "ZZZZ")
        await queues.send(Queue.PRODUCT, PRODUCT, "next")
        await system.settled(1, 10)
        dead = await queues.take(Queue.PRODUCT.dead)
        assert (dead.body, dead.headers["x-reason"]) == (b"{}", "validation")
        await system.outcomes(queues, {Queue.PRODUCT: ["next"]})
    assert not system.errors(), system.errors()


@on_streams
async def test_entries_that_no_client_library_makes(system: System, tmp_path: Path) -> None:
    made = tmp_path / "made"
    entries: list[dict[Any, Any]] = [
        {"foo": "bar"},
        {b"\xff": b"\xfe"},
        {"__data__": ""},
        {"__data__": b"\x89BIN\r\n\x1a\n"},
        {"__data__": b"\x89BIN\r\n\x1a\n\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff"},
        {"__data__": pickled(made)},
        {"__data__": '{"data": "{}", "headers": []}'},
        {"__data__": '{"data": "{}", "headers": {"message_id": 5, "reply_to": 7}}'},
        {"__data__": '{"data": "{}", "headers": {"message_id": ["x"], "content-type": {}}}'},
        {"__data__": '{"data": 5}'},
        {"__data__": "x", "more": "y"},
    ]
    async with (
        Redis(port=system.dependencies.valkey.port, db=1) as redis,
        system.queues() as queues,
    ):
        await system.start("worker")
        for queue in CONSUMED:
            for entry in entries:
                await redis.xadd(queue.value, entry)
        await queues.send(Queue.PRODUCT, PRODUCT, "next")

        async def are_gone() -> bool:
            return not any([await redis.xlen(queue.value) for queue in CONSUMED])

        await eventually(are_gone, 10)
        for queue in CONSUMED:
            assert len(await take_all(queues, queue.dead)) == len(entries)
    assert await system.value("SELECT count(*) FROM messages WHERE status = 'applied'") == 1
    assert not system.errors(), system.errors()
    assert not made.exists()
