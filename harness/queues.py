"""Clients of the queues that know nothing of the service: one for each transport."""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aio_pika
from faststream.redis import BinaryMessageFormatV1
from redis.asyncio import Redis

from harness.bare_amqp import publish_bare
from harness.dependencies import Dependencies
from harness.waiting import eventually


@dataclass(frozen=True)
class Sent:
    body: bytes
    message_id: str | None = None
    reply_to: str = ""
    correlation_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Received:
    body: bytes
    headers: Mapping[str, Any]
    message_id: str | None
    reply_to: str | None = None
    correlation_id: str | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def as_bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


class QueueClient(ABC):
    async def send(
        self,
        queue: str,
        body: Any,
        message_id: str | None = None,
        reply_to: str = "",
        correlation_id: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send bytes as they are and anything else as JSON; None leaves the message without id."""
        sent = Sent(as_bytes(body), message_id, reply_to, correlation_id, headers or {})
        await self._send(queue, sent)

    async def take(self, queue: str, seconds: float = 10) -> Received:
        """Wait for a message and take it out of the queue."""
        message = await eventually(lambda: self.poll(queue), seconds, lambda: f"nothing in {queue}")
        assert isinstance(message, Received)
        return message

    @abstractmethod
    async def _send(self, queue: str, message: Sent) -> None: ...

    @abstractmethod
    async def poll(self, queue: str) -> Received | None:
        """Take the next message, if there is one."""

    @abstractmethod
    async def count(self, queue: str) -> int:
        """How many messages wait; on streams those that are in progress count too."""

    @abstractmethod
    async def deliver_and_return(self, queue: str) -> None:
        """Take a delivery without acknowledging it, so that it will be delivered once more."""

    @abstractmethod
    async def declare(self, queue: str) -> None:
        """Declare the queue as any client would: durable, without arguments."""

    @abstractmethod
    async def reply_address(self) -> tuple[str, "asyncio.Queue[bytes]"]:
        """The value for `reply_to`, and the bodies of the replies as they arrive there."""


class RabbitMQClient(QueueClient):
    def __init__(self, url: str, channel: aio_pika.abc.AbstractChannel) -> None:
        self._url = url
        self._channel = channel

    async def _send(self, queue: str, message: Sent) -> None:
        await self.declare(queue)
        if message.message_id is None:
            await asyncio.to_thread(publish_bare, self._url, queue, message.body, message.reply_to)
            return
        await self._channel.default_exchange.publish(
            aio_pika.Message(
                message.body,
                message_id=message.message_id,
                reply_to=message.reply_to or None,
                correlation_id=message.correlation_id or None,
                headers=dict(message.headers),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            ),
            routing_key=queue,
        )

    async def poll(self, queue: str) -> Received | None:
        await self.declare(queue)
        message = await (await self._channel.get_queue(queue)).get(no_ack=True, fail=False)
        if message is None:
            return None
        return Received(
            message.body,
            message.headers,
            message.message_id,
            message.reply_to,
            message.correlation_id,
        )

    async def count(self, queue: str) -> int:
        declared = await self._channel.declare_queue(queue, durable=True)
        return declared.declaration_result.message_count or 0

    async def deliver_and_return(self, queue: str) -> None:
        message = await (await self._channel.get_queue(queue)).get()
        await message.nack(requeue=True)

    async def declare(self, queue: str) -> None:
        await self._channel.declare_queue(queue, durable=True)

    async def reply_address(self) -> tuple[str, "asyncio.Queue[bytes]"]:
        replies: asyncio.Queue[bytes] = asyncio.Queue()
        queue = await self._channel.declare_queue(exclusive=True)

        async def keep(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            replies.put_nowait(message.body)

        await queue.consume(keep, no_ack=True)
        return queue.name, replies


class StreamsClient(QueueClient):
    _GROUP = "order-service"

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._listening: list[asyncio.Task[None]] = []

    async def _send(self, queue: str, message: Sent) -> None:
        headers = dict(message.headers)
        if message.message_id:
            headers["message_id"] = message.message_id
        envelope = await BinaryMessageFormatV1.encode(
            message=message.body,
            reply_to=message.reply_to,
            headers=headers,
            correlation_id=message.correlation_id or uuid4().hex,
        )
        await self._redis.xadd(queue, {"__data__": envelope})

    async def poll(self, queue: str) -> Received | None:
        entries: Any = await self._redis.xrange(queue, count=1)
        for entry, fields in entries:
            await self._redis.xdel(queue, entry)
            body, headers = BinaryMessageFormatV1.parse(fields[b"__data__"])
            return Received(
                body,
                headers,
                headers.get("message_id"),
                headers.get("reply_to"),
                headers.get("correlation_id"),
            )
        return None

    async def count(self, queue: str) -> int:
        return int(await self._redis.xlen(queue))

    async def deliver_and_return(self, queue: str) -> None:
        await self.declare(queue)
        assert await self._redis.xreadgroup(self._GROUP, "somebody", {queue: ">"}, count=1)

    async def declare(self, queue: str) -> None:
        await self._redis.xgroup_create(queue, self._GROUP, id="0", mkstream=True)

    async def reply_address(self) -> tuple[str, "asyncio.Queue[bytes]"]:
        replies: asyncio.Queue[bytes] = asyncio.Queue()
        pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
        address = f"replies.{uuid4()}"
        await pubsub.subscribe(address)

        async def listen() -> None:
            async with pubsub:
                async for message in pubsub.listen():
                    replies.put_nowait(BinaryMessageFormatV1.parse(message["data"])[0])

        self._listening.append(asyncio.create_task(listen()))
        return address, replies

    async def close(self) -> None:
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)


@asynccontextmanager
async def queue_client(dependencies: Dependencies) -> AsyncIterator[QueueClient]:
    if dependencies.rabbitmq:
        async with await aio_pika.connect(dependencies.rabbitmq.url) as connection:
            yield RabbitMQClient(dependencies.rabbitmq.url, await connection.channel())
    else:
        async with Redis.from_url(f"{dependencies.valkey.url}/1") as redis:
            client = StreamsClient(redis)
            yield client
            await client.close()
