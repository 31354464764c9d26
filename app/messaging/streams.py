"""The queues on Valkey streams: for the one-process mode, without RabbitMQ. A message is an entry
of a stream, and is deleted when it is acknowledged."""

import asyncio
import json
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
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
    DeadLetters,
    Delivery,
    Outgoing,
    Receiver,
    ReplyReceiver,
)
from app.messaging.originals import kept, restored
from app.messaging.undecoded import UNDECODED
from app.redis_connections import connection_options
from app.runtime.loops import running
from app.runtime.micro_batcher import MicroBatcher
from app.schemas.messages import Queue
from app.server_addresses import RedisAddress

log = structlog.get_logger(__name__)
_log = logging.getLogger("faststream.redis")

_GROUP = "order-service"
# The data directory is locked, so there is only one consuming process, and one name is enough.
_CONSUMER = "worker"
_RECLAIM_AFTER_MS = 15_000
# Below redis-py's socket timeout of 5 s: otherwise nothing is ever received.
_POLL_MS = 1000
_GRACE = 8
_PAGE = 100
# What are properties in RabbitMQ are headers here.
_PROPERTIES = ("message_id", "content-type", "correlation_id", "reply_to")
# The bytes of a header's name or value: their number is written in two bytes.
_MOST = 65_535


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except (RedisError, OSError) as error:
        raise Unavailable(f"the queues do not answer: {error!r}") from error


class _Envelope(BinaryMessageFormatV1):
    """Bytes of a header that are not UTF-8 cost that header, and not the message id beside it. If
    the headers are out of joint, the whole is the body: without its id, a repeat would act twice.
    """

    @classmethod
    def parse(cls, data: bytes) -> tuple[bytes, dict[str, Any]]:
        if not data.startswith(cls.IDENTITY_HEADER):
            return super().parse(data)
        try:
            return _parts(data)
        except (struct.error, ValueError):
            return data, {}


def _parts(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """Raises ValueError or struct.error if the lengths do not fit."""
    version, at, body_at = struct.unpack_from(">HII", data, len(_Envelope.IDENTITY_HEADER))
    (count,) = struct.unpack_from(">H", data, at)
    texts, at = [], at + 2
    for _ in range(2 * count):
        (length,) = struct.unpack_from(">H", data, at)
        texts.append(data[at + 2 : at + 2 + length].decode(errors="backslashreplace"))
        at += 2 + length
    if version != 1 or at != body_at:
        raise ValueError
    return data[body_at:], dict(zip(texts[::2], texts[1::2], strict=True))


class Streams(Broker):
    def __init__(self, address: RedisAddress) -> None:
        self._options = connection_options(address)
        self._prefix = address.prefix
        place = address.place.partition("://")[2]
        self.place = f"streams at {place}, database {address.number}"
        self._publisher = RedisBroker(**self._options, logger=_log, message_format=_Envelope)
        self._publishing = asyncio.Semaphore(16)  # the publisher's pool fails beyond its limit
        self._client: Redis = Redis.from_url(**self._options, socket_timeout=PUBLISH_SECONDS)
        self._acks = MicroBatcher(self._acknowledge, most=1000)
        # Pending entries that nobody works on: left by an earlier process, or given up by this one.
        self._abandoned: set[bytes] = set()

    def _stream(self, queue: str) -> str:
        return f"{self._prefix}{queue}"

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
        return RedisBroker(
            **self._options,
            logger=_log,
            message_format=_Envelope,
            **UNDECODED,
            **options,
        )

    async def _create_group(self, queue: Queue) -> None:
        try:
            # From 0: a group from "$" would skip what was sent before the first start.
            await self._client.xgroup_create(self._stream(queue), _GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _claim(self, queue: Queue) -> None:
        """Make the reclaimer take at once what an earlier process has left pending."""
        pending = await self._client.xpending_range(self._stream(queue), _GROUP, "-", "+", 10_000)
        if pending:
            ids: list[Any] = [entry["message_id"] for entry in pending]
            self._abandoned.update(ids)
            await self._client.xclaim(
                self._stream(queue), _GROUP, _CONSUMER, 0, ids, idle=_RECLAIM_AFTER_MS, justid=True
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

        stream = self._stream(queue)
        _listen(consumer, stream, handle, max_records=most)
        # An entry that failed or was abandoned stays pending for ever unless somebody claims it.
        _listen(consumer, stream, handle_again, min_idle_time=_RECLAIM_AFTER_MS)

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
                pipe.xack(self._stream(queue), _GROUP, *entries)
                pipe.xdel(self._stream(queue), *entries)
            await pipe.execute()
        return [None] * len(done)

    async def publish(self, message: Outgoing) -> None:
        own = {"message_id": message.message_id, "content-type": message.content_type}
        headers = {**message.headers, **own}
        await self._publish(message.queue, message.body, headers, message.reply_to or "")

    async def _publish(
        self, stream: str, body: bytes, headers: Mapping[str, object], reply_to: str = ""
    ) -> None:
        # As bytes: FastStream would count the characters of a string, and cut its bytes.
        encoded: dict[Any, bytes] = {_name(n): _as_bytes(v)[:_MOST] for n, v in headers.items()}
        await self._send(body, stream=self._stream(stream), headers=encoded, reply_to=reply_to)

    async def _send(self, body: bytes, **options: Any) -> None:
        async with _within(PUBLISH_SECONDS), self._publishing:
            await self._publisher.connect()
            await self._publisher.publish(body, **options)

    async def reply(self, delivery: Delivery, body: bytes) -> None:
        try:
            await self._send(
                body, channel=delivery.reply_to, correlation_id=delivery.correlation_id
            )
        except (Unavailable, ValueError) as error:
            log.info("reply not sent", queue=delivery.queue, error=str(error))

    @asynccontextmanager
    async def replies(self, receiver: ReplyReceiver) -> AsyncIterator[str]:
        listener = self._listener()
        channel = f"replies.{uuid4()}"

        @listener.subscriber(channel, no_reply=True)
        async def handle(message: RedisChannelMessage) -> None:
            receiver(message.body)

        # Outside the `try`: stopping what has not started fails too, and would hide why.
        async with _within(PUBLISH_SECONDS):
            await listener.start()
        try:
            yield channel
        finally:
            await listener.stop()

    async def bury(self, delivery: Delivery, why: Mapping[str, str]) -> None:
        headers = {kept(name): value for name, value in delivery.original.items()}
        await self._publish(delivery.queue.dead, delivery.body, {**headers, **why})

    async def retry(self, queue: Queue, letter: DeadLetter) -> None:
        names = {name: restored(name) for name in letter.original}
        headers = {new: letter.original[name] for name, new in names.items() if new is not None}
        if not headers.get("message_id"):
            headers["message_id"] = uuid4().hex
        await self._publish(queue, letter.body, headers)

    @asynccontextmanager
    async def dead_letters(self, queue: Queue) -> AsyncIterator[DeadLetters]:
        async with _within(PUBLISH_SECONDS):
            count = await self._client.xlen(self._stream(queue.dead))
        yield DeadLetters(count, self._letters(queue, count))

    async def _letters(self, queue: Queue, count: int) -> AsyncIterator[DeadLetter]:
        after = "-"
        while count > 0:
            async with _within(PUBLISH_SECONDS):
                page: Any = await self._client.xrange(
                    self._stream(queue.dead), after, count=min(count, _PAGE)
                )
            if not page:
                return
            for entry, fields in page:
                yield self._dead_letter(queue, entry, fields)
            count -= len(page)
            after = f"({page[-1][0].decode()}"

    def _dead_letter(self, queue: Queue, entry: bytes, fields: Mapping[bytes, bytes]) -> DeadLetter:
        body, headers = _Envelope.parse(fields.get(bDATA_KEY, b""))

        async def remove() -> None:
            async with _within(PUBLISH_SECONDS):
                await self._client.xdel(self._stream(queue.dead), entry)

        return DeadLetter(
            message_id=headers.get("message_id", ""),
            body=body,
            properties={name: headers[name] for name in _PROPERTIES if name in headers},
            headers={name: text for name, text in headers.items() if name not in _PROPERTIES},
            original=headers,
            remove=remove,
        )

    async def drop_dead(self, queue: Queue, before: datetime) -> None:
        await self._trim(queue.dead, before)

    async def drop_reports(self, before: datetime) -> None:
        await self._trim(Queue.REPORT, before)

    async def _trim(self, stream: str, before: datetime) -> None:
        """The id of an entry begins with the milliseconds at which it was added."""
        oldest = f"{int(before.timestamp() * 1000)}"
        async with _within(PUBLISH_SECONDS):
            await self._client.xtrim(self._stream(stream), minid=oldest, approximate=False)

    async def ping(self) -> None:
        async with _within(1):
            await self._client.ping()

    async def close(self) -> None:
        await self._publisher.stop()
        await self._client.aclose()


def _name(name: str) -> str | bytes:
    return name if name.isascii() else _as_bytes(name)[:_MOST]


def _as_bytes(value: object) -> bytes:
    """Senders of the older form of a message, which is JSON, may set any value."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="backslashreplace")


def _listen(
    consumer: RedisBroker,
    name: str,
    handle: Callable[[RedisStreamMessage], Awaitable[None]],
    max_records: int | None = None,
    min_idle_time: int | None = None,
) -> None:
    stream = StreamSub(
        name,
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
        original=headers,
    )
