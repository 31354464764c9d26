"""The queues on Valkey streams: the embedded mode, where there is no RabbitMQ.

One entry of a stream is one message; it is deleted when it is acknowledged."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from faststream import AckPolicy
from faststream.redis import RedisBroker, RedisStreamMessage, StreamSub
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from app.errors import Unavailable
from app.infra.broker import PUBLISH_SECONDS, Broker, Delivery, Outgoing, Receiver
from app.schemas.messages import Queue

log = structlog.get_logger(__name__)
_log = logging.getLogger(__name__)

_GROUP = "order-service"
# The data directory is locked, so there is one consuming process and it can keep one name.
_CONSUMER = "worker"
_RECLAIM_AFTER_MS = 15_000
# Must stay below redis-py's socket timeout of 5 s, or nothing is ever received.
_POLL_MS = 1000
_GRACE_SECONDS = 8


async def _keep_bytes(message: RedisStreamMessage) -> bytes:
    return message.body


class Streams(Broker):
    def __init__(self, url: str) -> None:
        self._url = url
        self._publisher = RedisBroker(url, logger=_log)
        self._client: Redis = Redis.from_url(url, socket_timeout=PUBLISH_SECONDS)

    @asynccontextmanager
    async def consuming(
        self, queues: Iterable[Queue], receiver: Receiver, concurrency: int
    ) -> AsyncIterator[None]:
        consumer = RedisBroker(
            self._url, decoder=_keep_bytes, graceful_timeout=_GRACE_SECONDS, logger=_log
        )
        for queue in queues:
            await self._prepare(queue)
            self._subscribe(consumer, queue, receiver, concurrency)
        await consumer.start()
        try:
            yield
        finally:
            await consumer.stop()

    async def _prepare(self, queue: Queue) -> None:
        try:
            # From 0: a group that begins at "$" would skip what was sent before the first start.
            await self._client.xgroup_create(queue.value, _GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        pending = await self._client.xpending_range(queue.value, _GROUP, "-", "+", 10_000)
        if pending:  # held by a process that is gone: let the reclaimer take them at once
            ids: list[Any] = [entry["message_id"] for entry in pending]
            await self._client.xclaim(
                queue.value, _GROUP, _CONSUMER, 0, ids, idle=_RECLAIM_AFTER_MS, justid=True
            )

    def _subscribe(
        self, consumer: RedisBroker, queue: Queue, receiver: Receiver, concurrency: int
    ) -> None:
        @consumer.subscriber(
            stream=StreamSub(
                queue.value,
                group=_GROUP,
                consumer=_CONSUMER,
                polling_interval=_POLL_MS,
                max_records=concurrency,
            ),
            max_workers=concurrency,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )
        async def handle(message: RedisStreamMessage) -> None:
            await self._receive(queue, message, receiver, redelivered=False)

        # A failed or abandoned entry stays pending for ever unless somebody claims it.
        @consumer.subscriber(
            stream=StreamSub(
                queue.value,
                group=_GROUP,
                consumer=_CONSUMER,
                polling_interval=_POLL_MS,
                min_idle_time=_RECLAIM_AFTER_MS,
            ),
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )
        async def handle_again(message: RedisStreamMessage) -> None:
            await self._receive(queue, message, receiver, redelivered=True)

    async def _receive(
        self, queue: Queue, message: RedisStreamMessage, receiver: Receiver, redelivered: bool
    ) -> None:
        headers = message.headers
        await receiver(
            Delivery(
                queue=queue,
                body=message.body,
                message_id=headers.get("message_id"),
                redelivered=redelivered,
                reply_to=headers.get("reply_to", ""),
                correlation_id=headers.get("correlation_id", ""),
                headers=headers,
            )
        )
        await message.ack()
        await message.delete()

    async def publish(self, message: Outgoing) -> None:
        headers = {**message.headers, "message_id": message.message_id}
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._publisher.connect()
                await self._publisher.publish(
                    message.body,
                    stream=message.queue,
                    headers={**headers, "content-type": message.content_type},
                    reply_to=message.reply_to or "",
                )
        except (RedisError, OSError) as error:
            raise Unavailable(f"the queues do not answer: {error!r}") from error

    async def reply(self, delivery: Delivery, body: bytes) -> None:
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._publisher.connect()
                await self._publisher.publish(
                    body, channel=delivery.reply_to, correlation_id=delivery.correlation_id
                )
        except (RedisError, OSError) as error:
            log.info("reply not sent", queue=delivery.queue, error=repr(error))

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(1):
                await self._client.ping()
        except (RedisError, OSError) as error:
            raise Unavailable(f"the queues do not answer: {error!r}") from error

    async def close(self) -> None:
        await self._publisher.stop()
        await self._client.aclose()
