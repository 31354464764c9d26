"""The queues on Valkey streams: for the one-process mode, without RabbitMQ. A message is an entry
of a stream, and is deleted when it is acknowledged."""

import asyncio
import json
import logging
import struct
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple
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
    QueueState,
    Receiver,
    ReplyReceiver,
)
from app.messaging.originals import kept, restored
from app.messaging.undecoded import UNDECODED
from app.queues import CONSUMED, Queue
from app.redis_connections import connection_options
from app.runtime.loops import running
from app.runtime.micro_batcher import MicroBatcher
from app.server_addresses import RedisAddress

log = structlog.get_logger(__name__)
_log = logging.getLogger("app.faststream")

_GROUP = "order-service"
# The data directory is locked, so there is only one consuming process, and one name is enough.
_CONSUMER = "worker"
_RECLAIM_AFTER_MS = 15_000
# Below redis-py's socket timeout of 5 s: otherwise nothing is ever received.
_POLL_MS = 1000
_GRACE = 8
_STATE_SECONDS = 3
_PAGE = 100
# Of the stream `report`, which nobody has to consume: half of what the server has for all queues,
# and the rows of a million orders.
_REPORT_BYTES = 128 * 1024 * 1024
# A stream that does not exist.
_PROBE = "order-service.probe"
# HTTP may be on the same event loop. So many messages are begun at once, for large batches; then so
# many turns of the loop pass: little time without HTTP. The shares are in docs/performance.md.
_STARTED_AT_ONCE = 64
_TURNS_BETWEEN = 40
# What are properties in RabbitMQ are headers here.
_PROPERTIES = ("message_id", "content-type", "correlation_id", "reply_to")
# The bytes of a header's name or value: their number is written in two bytes.
_MOST = 65_535


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except ResponseError as error:  # full, read-only, or its disk is full
        raise Unavailable(f"the queues refuse: {error}") from error
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

    async def states(self, *further: str) -> Mapping[str, QueueState]:
        names = [*Queue, *(queue.dead for queue in CONSUMED), *further]
        async with _within(_STATE_SECONDS), self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.xlen(self._stream(name))
                pipe.xrange(self._stream(name), count=1)
            found: Any = await pipe.execute()
        return {
            str(name): QueueState(count, oldest=_age(oldest))
            for name, count, oldest in zip(names, found[::2], found[1::2], strict=True)
        }

    @asynccontextmanager
    async def consuming(
        self, prefetch: Mapping[Queue, int], receiver: Receiver
    ) -> AsyncIterator[None]:
        consumer = self._listener(parser=_unparsed, graceful_timeout=_GRACE)
        in_flight = []
        for queue, most in prefetch.items():
            await self._create_group(queue)
            await self._claim(queue)
            in_flight.append(self._subscribe(consumer, queue, receiver, most))
        client: Any = await consumer.connect()
        client.xgroup_create = _refuse_to_create
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
            deadline = asyncio.get_running_loop().time() + _GRACE
            await consumer.stop()
            await asyncio.gather(*(deliveries.end(deadline) for deliveries in in_flight))

    def _listener(self, **options: Any) -> RedisBroker:
        return RedisBroker(
            **self._options,
            logger=_log,
            message_format=_Envelope,
            **UNDECODED,
            **options,
        )

    async def _create_group(self, queue: Queue) -> None:
        stream = self._stream(queue)
        # Looked for first: a full server refuses to create even what is there.
        if await self._client.exists(stream):
            groups: Any = await self._client.xinfo_groups(stream)
            if any(group["name"] == _GROUP.encode() for group in groups):
                return
        # From 0: a group from "$" would skip what was sent before the first start.
        await self._client.xgroup_create(stream, _GROUP, id="0", mkstream=True)

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
    ) -> "_InFlight":
        in_flight = _InFlight(most)

        async def handle(message: RedisStreamMessage) -> None:
            entries = _entries(message)
            await in_flight.start(
                self._receive(queue, entry, receiver, redelivered=False) for entry in entries
            )

        async def handle_again(message: RedisStreamMessage) -> None:
            # An entry that is only held for long gets here too. If it has a message id, the inbox
            # sees that; if it has none, it must be known to be abandoned.
            for entry in _entries(message):
                if "message_id" in entry.headers or entry.id in self._abandoned:
                    await self._receive(queue, entry, receiver, redelivered=True)

        stream = self._stream(queue)
        _listen(consumer, stream, handle, max_records=in_flight.portion)
        # An entry that failed or was abandoned stays pending for ever unless somebody claims it.
        _listen(consumer, stream, handle_again, min_idle_time=_RECLAIM_AFTER_MS)
        return in_flight

    async def _receive(
        self, queue: Queue, entry: "_Entry", receiver: Receiver, redelivered: bool
    ) -> None:
        try:
            await receiver(_delivery(queue, entry, redelivered))
            await self._acks.submit((queue, entry.id))
        except BaseException:
            self._abandoned.add(entry.id)
            raise
        self._abandoned.discard(entry.id)

    async def _acknowledge(self, done: Sequence[tuple[Queue, bytes]]) -> Sequence[None]:
        # In one transaction: an entry that is acknowledged but not deleted would stay for ever.
        async with self._client.pipeline(transaction=True) as pipe:
            for queue in {queue for queue, _ in done}:
                entries = [entry for of, entry in done if of == queue]
                stream = self._stream(queue)
                pipe.xack(stream, _GROUP, *entries)
                pipe.xdel(stream, *entries)
            await pipe.execute()
        return [None] * len(done)

    async def publish(self, message: Outgoing) -> None:
        own = {"message_id": message.message_id, "content-type": message.content_type}
        headers = {**message.headers, **own}
        if message.queue == Queue.REPORT:
            await self._make_room_for_reports()
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

    async def retry(self, queue: Queue, letter: DeadLetter) -> str:
        names = {name: restored(name) for name in letter.original}
        headers = {new: letter.original[name] for name, new in names.items() if new is not None}
        message_id = letter.message_id or uuid4().hex
        await self._publish(queue, letter.body, {**headers, "message_id": message_id})
        return message_id

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

    async def drop_dead(self, before: datetime) -> None:
        for queue in CONSUMED:
            await self._trim(queue.dead, before)

    async def drop_reports(self, before: datetime) -> None:
        await self._trim(Queue.REPORT, before)

    async def _trim(self, stream: str, before: datetime) -> None:
        """The id of an entry begins with the milliseconds at which it was added."""
        oldest = f"{int(before.timestamp() * 1000)}"
        async with _within(PUBLISH_SECONDS):
            await self._client.xtrim(self._stream(stream), minid=oldest, approximate=False)

    async def _make_room_for_reports(self) -> None:
        """Drop the older half of them when they are too large. Before adding one: a server that is
        full takes no more, but deletes."""
        async with _within(PUBLISH_SECONDS):
            stream = self._stream(Queue.REPORT)
            size = await self._client.memory_usage(stream) or 0
            if size <= _REPORT_BYTES:
                return
            count = await self._client.xlen(stream)
            dropped = await self._client.xtrim(stream, maxlen=count // 2, approximate=False)
        log.warning(
            "dropped the oldest report messages: nobody takes them", dropped=dropped, bytes=size
        )

    async def ping(self) -> None:
        """By a write that changes nothing: a server that is full or read-only still answers."""
        async with _within(1):
            await self._client.xadd(self._stream(_PROBE), {"": ""}, nomkstream=True)

    async def close(self) -> None:
        await self._publisher.stop()
        await self._client.aclose()


def _age(entries: Sequence[tuple[bytes, object]]) -> float:
    """How old the first of them is: its id begins with the milliseconds at which it was given."""
    if not entries:
        return 0.0
    added = int(entries[0][0].partition(b"-")[0]) / 1000
    return max(0.0, time.time() - added)


async def _refuse_to_create(**_: object) -> bool:
    """FastStream creates each group once more, which a full server would refuse with another error:
    then nobody could empty it."""
    raise ResponseError("the group already exists")


def _name(name: str) -> str | bytes:
    return name if name.isascii() else _as_bytes(name)[:_MOST]


def _as_bytes(value: object) -> bytes:
    """Senders of the older form of a message, which is JSON, may set any value."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="backslashreplace")


class _Entry(NamedTuple):
    id: bytes
    body: bytes
    headers: dict[str, Any]


class _InFlight:
    """The deliveries of one queue that are worked on."""

    def __init__(self, most: int) -> None:
        # As many are read at a time as there is room for when half of them are done.
        self.portion = max(1, most // 2)
        self._kept = most - self.portion
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    async def start(self, deliveries: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Returns when there is room for another portion.

        FastStream's own concurrent subscriber needs several turns of the event loop for each
        message. In one process with a busy API, that is all it would do."""
        for number, delivery in enumerate(deliveries, 1):
            task = asyncio.create_task(delivery)
            self._tasks.add(task)
            task.add_done_callback(self._end)
            if number % _STARTED_AT_ONCE == 0:
                for _ in range(_TURNS_BETWEEN):
                    await asyncio.sleep(0)
        while len(self._tasks) > self._kept:
            self._ended.clear()
            await self._ended.wait()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._ended.set()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, RedisError | OSError | Unavailable):
            log.info("delivery failed, so it comes again", error=repr(error))
        elif error:
            log.error("delivery failed", exc_info=error)

    async def end(self, deadline: float) -> None:
        try:
            async with asyncio.timeout_at(deadline):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)


def _entries(message: RedisStreamMessage) -> Iterator[_Entry]:
    """Of any shape: others may have added them, and they become dead letters."""
    raw: Any = message.raw_message
    for id_, fields in zip(raw["message_ids"], raw["data"], strict=True):
        yield _Entry(id_, *_parsed(fields))


def _parsed(fields: Mapping[bytes, bytes]) -> tuple[bytes, dict[str, Any]]:
    with suppress(Exception):
        body, headers = _Envelope.parse(fields[bDATA_KEY])
        # The older form of a message, which is JSON, may have anything for its parts.
        if isinstance(body, bytes) and isinstance(headers, dict):
            return body, headers
    return fields.get(bDATA_KEY) or repr(fields).encode(), {}


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
        batch=True,
        polling_interval=_POLL_MS,
        max_records=max_records,
        min_idle_time=min_idle_time,
    )
    subscriber = consumer.subscriber(stream=stream, ack_policy=AckPolicy.MANUAL, no_reply=True)
    subscriber(handle)


async def _unparsed(message: Any, _: Callable[[Any], Awaitable[Any]]) -> Any:
    """FastStream would parse the entries of a batch as one message."""
    return RedisStreamMessage(message, b"", consumer=FAKE_CONSUMER, group=_GROUP)


def _delivery(queue: Queue, entry: _Entry, redelivered: bool) -> Delivery:
    headers = entry.headers
    message_id = headers.get("message_id")
    return Delivery(
        queue=queue,
        body=entry.body,
        message_id=None if message_id is None else str(message_id),
        redelivered=redelivered,
        reply_to=str(headers.get("reply_to") or ""),
        correlation_id=str(headers.get("correlation_id") or ""),
        original=headers,
    )
