"""The queues on Valkey streams: for the one-process mode, without RabbitMQ. A message is an entry of
a stream, and is deleted when it is acknowledged."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import structlog
from faststream import AckPolicy
from faststream.redis import RedisBroker, RedisChannelMessage, RedisStreamMessage, StreamSub
from faststream.redis.message import FAKE_CONSUMER, bDATA_KEY
from faststream.redis.parser import BinaryMessageFormatV1
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from app.errors import Unavailable
from app.messaging.broker import (
    PUBLISH_SECONDS,
    Broker,
    DeadLetter,
    Delivery,
    Outgoing,
    Receiver,
    ReplyReceiver,
)
from app.runtime.loops import running
from app.runtime.micro_batcher import MicroBatcher
from app.schemas.messages import Queue

log = structlog.get_logger(__name__)
_log = logging.getLogger("faststream.redis")

_GROUP = "order-service"
# The data directory is locked, so there is only one consuming process, and one name is enough.
_CONSUMER = "worker"
_RECLAIM_AFTER_MS = 15_000
# Below redis-py's socket timeout of 5 s: otherwise nothing is ever received.
_POLL_MS = 1000
_GRACE = 8


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (RedisError, OSError) as error:
        raise Unavailable(f"the queues do not answer: {error!r}") from error


class Streams(Broker):
    def __init__(self, url: str) -> None:
        self._url = url
        self._publisher = RedisBroker(url, logger=_log)
        self._publishing = asyncio.Semaphore(16)  # the publisher's pool fails beyond its limit
        self._client: Redis = Redis.from_url(url, socket_timeout=PUBLISH_SECONDS)
        self._acks = MicroBatcher(self._acknowledge, most=1000)
        # Pending entries that nobody works on: left by an earlier process, or given up by this one.
        self._abandoned: set[bytes] = set()

    @property
    def troubles(self) -> Mapping[Queue, str]:
        return {}  # one process with its own server: nobody asks

    @property
    def refused(self) -> Mapping[str, str]:
        return {}

    @asynccontextmanager
    async def consuming(
        self, prefetch: Mapping[Queue, int], receiver: Receiver
    ) -> AsyncIterator[None]:
        consumer = self._listener(parser=_parse_any, graceful_timeout=_GRACE)
        for queue, most in prefetch.items():
            await self._create_group(queue)
            await self._claim(queue)
            self._subscribe(consumer, queue, receiver, most)
        await consumer.start()

        async def revive() -> None:
            """FastStream stops reading a stream for good once it is deleted, by FLUSHDB say."""
            for subscriber in consumer.subscribers:
                if not subscriber.running:
                    await asyncio.gather(*map(self._create_group, prefetch))
                    await subscriber.start()

        try:
            async with running((revive, 1)):
                yield
        finally:
            await consumer.stop()

    def _listener(self, **options: Any) -> RedisBroker:
        return RedisBroker(self._url, decoder=_undecoded, apply_types=False, logger=_log, **options)

    async def _create_group(self, queue: Queue) -> None:
        try:
            # From 0: a group from "$" would skip what was sent before the first start.
            await self._client.xgroup_create(queue.value, _GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _claim(self, queue: Queue) -> None:
        """Make the reclaimer take at once what an earlier process has left pending."""
        pending = await self._client.xpending_range(queue.value, _GROUP, "-", "+", 10_000)
        if pending:
            ids: list[Any] = [entry["message_id"] for entry in pending]
            self._abandoned.update(ids)
            await self._client.xclaim(
                queue.value, _GROUP, _CONSUMER, 0, ids, idle=_RECLAIM_AFTER_MS, justid=True
            )

    def _subscribe(
        self, consumer: RedisBroker, queue: Queue, receiver: Receiver, most: int
    ) -> None:
        async def handle(message: RedisStreamMessage) -> None:
            await self._receive(queue, message, receiver, redelivered=False)

        async def handle_again(message: RedisStreamMessage) -> None:
            # An entry that is only held for long gets here too. If it has a message id, the inbox
            # sees that; if it has none, it must be known to be abandoned.
            if "message_id" in message.headers or self._abandoned.issuperset(
                message.raw_message["message_ids"]
            ):
                await self._receive(queue, message, receiver, redelivered=True)

        _listen(consumer, queue, handle, max_records=most)
        # An entry that failed or was abandoned stays pending for ever unless somebody claims it.
        _listen(consumer, queue, handle_again, min_idle_time=_RECLAIM_AFTER_MS)

    async def _receive(
        self, queue: Queue, message: RedisStreamMessage, receiver: Receiver, redelivered: bool
    ) -> None:
        entries = message.raw_message["message_ids"]
        try:
            await receiver(_delivery(queue, message, redelivered))
            await self._acks.submit((queue, entries))
        except BaseException:
            self._abandoned.update(entries)
            raise
        self._abandoned.difference_update(entries)

    async def _acknowledge(self, done: Sequence[tuple[Queue, list[Any]]]) -> Sequence[None]:
        # In one transaction: an entry that is acknowledged but not deleted would stay for ever.
        async with self._client.pipeline(transaction=True) as pipe:
            for queue, entries in done:
                pipe.xack(queue.value, _GROUP, *entries)
                pipe.xdel(queue.value, *entries)
            await pipe.execute()
        return [None] * len(done)

    async def publish(self, message: Outgoing) -> None:
        own = {"message_id": message.message_id, "content-type": message.content_type}
        headers = {**message.headers, **own}.items()
        async with _within(PUBLISH_SECONDS), self._publishing:
            await self._publisher.connect()
            await self._publisher.publish(
                message.body,
                stream=message.queue,
                # As bytes: FastStream would count the characters of a string, and cut its bytes.
                headers={name: value.encode(errors="backslashreplace") for name, value in headers},
                reply_to=message.reply_to or "",
            )

    async def reply(self, delivery: Delivery, body: bytes) -> None:
        try:
            async with asyncio.timeout(PUBLISH_SECONDS), self._publishing:
                await self._publisher.connect()
                await self._publisher.publish(
                    body, channel=delivery.reply_to, correlation_id=delivery.correlation_id
                )
        except (RedisError, OSError, ValueError) as error:
            log.info("reply not sent", queue=delivery.queue, error=repr(error))

    @asynccontextmanager
    async def replies(self, receiver: ReplyReceiver) -> AsyncIterator[str]:
        listener = self._listener()
        channel = f"replies.{uuid4()}"

        @listener.subscriber(channel, no_reply=True)
        async def handle(message: RedisChannelMessage) -> None:
            receiver(message.body)

        try:
            async with _within(PUBLISH_SECONDS):
                await listener.start()
            yield channel
        finally:
            await listener.stop()

    @asynccontextmanager
    async def dead_letters(self, queue: Queue, most: int) -> AsyncIterator[Sequence[DeadLetter]]:
        entries: Any = await self._client.xrange(queue.dead, count=most)
        yield [self._dead_letter(queue, entry, fields) for entry, fields in entries]

    def _dead_letter(self, queue: Queue, entry: bytes, fields: Mapping[bytes, bytes]) -> DeadLetter:
        body, headers = BinaryMessageFormatV1.parse(fields.get(bDATA_KEY, b""))

        async def remove() -> None:
            await self._client.xdel(queue.dead, entry)

        return DeadLetter(
            message_id=headers.get("message_id", ""),
            body=body,
            headers={k: v for k, v in headers.items() if k.startswith("x-")},
            remove=remove,
        )

    async def ping(self) -> None:
        async with _within(1):
            await self._client.ping()

    async def close(self) -> None:
        await self._publisher.stop()
        await self._client.aclose()


def _listen(
    consumer: RedisBroker,
    queue: Queue,
    handle: Callable[[RedisStreamMessage], Awaitable[None]],
    max_records: int | None = None,
    min_idle_time: int | None = None,
) -> None:
    stream = StreamSub(
        queue.value,
        group=_GROUP,
        consumer=_CONSUMER,
        polling_interval=_POLL_MS,
        max_records=max_records,
        min_idle_time=min_idle_time,
    )
    options: dict[str, Any] = {"max_workers": max_records} if max_records else {}
    subscriber = consumer.subscriber(
        stream=stream, ack_policy=AckPolicy.MANUAL, no_reply=True, **options
    )
    subscriber(handle)


async def _undecoded(message: Any) -> Any:
    """FastStream would decode JSON before the handler runs, where we cannot catch a failure."""
    return message


async def _parse_any(message: Any, parse: Callable[[Any], Awaitable[Any]]) -> Any:
    """Accept entries of any shape, which others may have added: they become dead letters."""
    try:
        return await parse(message)
    except Exception:
        body = message["data"].get(bDATA_KEY) or repr(message["data"]).encode()
        return RedisStreamMessage(message, body, consumer=FAKE_CONSUMER, group=_GROUP)


def _delivery(queue: Queue, message: RedisStreamMessage, redelivered: bool) -> Delivery:
    headers = message.headers
    message_id = headers.get("message_id")
    return Delivery(
        queue=queue,
        body=message.body,
        message_id=None if message_id is None else str(message_id),
        redelivered=redelivered,
        reply_to=str(headers.get("reply_to") or ""),
        correlation_id=str(headers.get("correlation_id") or ""),
        headers=headers,
    )
