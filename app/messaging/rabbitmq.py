"""The queues on RabbitMQ."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import AMQPError, ChannelClosed
from aiormq.abc import AbstractChannel
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue

from app.errors import Unavailable
from app.messaging.amqp import explain, explain_queue, shortened
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
from app.messaging.properties import Repeated, accept_any_properties, dead_wire, retried_wire
from app.messaging.undecoded import UNDECODED
from app.runtime.cancellation import is_our_end
from app.schemas.messages import CONSUMED, Queue

log = structlog.get_logger(__name__)
_log = logging.getLogger("faststream.rabbit")

# aiormq raises bare ConnectionError, RuntimeError and even CancelledError when a connection dies.
_FAILURES = (AMQPError, OSError, RuntimeError, asyncio.CancelledError)
_GRACE_SECONDS = 8
_HEARTBEAT_SECONDS = 10
_SHOWN = (
    *("content_type", "content_encoding", "priority", "correlation_id", "reply_to"),
    *("timestamp", "type", "app_id"),
)
_WATCH_SECONDS = 1
_LOOK_SECONDS = 5
_NOT_YET = "not consumed yet"
_ALL_QUEUES = (*Queue, *(queue.dead for queue in CONSUMED))
_PUBLISHED = [name for name in _ALL_QUEUES if name not in CONSUMED]


accept_any_properties()


def _plain_queue(name: str) -> RabbitQueue:
    """Declared without arguments, so that a client that declares it plainly never gets a 406.

    FastStream would name the type classic, which conflicts with a vhost whose default is quorum."""
    queue = RabbitQueue(name, durable=True)
    queue.arguments = {}
    return queue


async def _stop(broker: RabbitBroker, seconds: float) -> None:
    """Stop, or give up after `seconds`: a frozen RabbitMQ would keep us waiting, even for the end
    of a cancelled stop."""
    stopping = asyncio.create_task(broker.stop())
    await asyncio.wait({stopping}, timeout=seconds)
    if stopping.done():
        stopping.result()


class QueueRefused(Unavailable):
    """RabbitMQ answers, but the queue has other arguments or an owner, or we no permission."""


async def _channel(connection: AbstractConnection) -> AbstractChannel:
    """One without the client library's means to restore it: a refusal closes it."""
    if connection.transport is None:
        raise ConnectionError("not connected")
    return await connection.transport.connection.channel(publisher_confirms=False)


async def _declare(connection: AbstractConnection, name: str) -> None:
    """Durable and without arguments, as any client may. Raises ChannelClosed if that is refused."""
    channel = await _channel(connection)
    try:
        await channel.queue_declare(name, durable=True)
    finally:
        await channel.close()


async def _is_consuming(consumer: RabbitBroker) -> bool:
    """Without asking the server, which only knows that somebody consumes the queue."""
    # pylint: disable=protected-access
    connection: Any = await consumer.connect()
    subscriber: Any
    [subscriber] = consumer.subscribers
    queue = subscriber._queue_obj
    if queue is None or not connection.connected.is_set():
        return False
    channel = await queue.channel.get_underlay_channel()
    return not channel.is_closed and subscriber._consumer_tag in channel.consumers


def _gist(text: str) -> str:
    """Without the library's words in brackets, which differ from time to time."""
    return text.partition(" (")[0]


class RabbitMQ(Broker):
    def __init__(self, url: str) -> None:
        # The client library's default is 60 s, and it gives a hung server three times as long.
        self._url = f"{url}?heartbeat={_HEARTBEAT_SECONDS}"
        self._host = url.rpartition("@")[2]
        address, _, vhost = self._host.rpartition("/")
        self.place = f"RabbitMQ at {address}, vhost {unquote(vhost)}"
        self._user = unquote(urlsplit(url).username or "")
        self._publisher = RabbitBroker(
            self._url,
            default_channel=Channel(on_return_raises=True),
            reconnect_interval=1,
            timeout=PUBLISH_SECONDS,
            logger=_log,
        )
        self._connecting = asyncio.Lock()
        self._declared: set[str] = set()
        self._troubles: dict[Queue, str] = {}
        self._refused: dict[str, str] = {}
        self._look_at = 0.0

    @property
    def troubles(self) -> Mapping[Queue, str]:
        return self._troubles

    @property
    def refused(self) -> Mapping[str, str]:
        return self._refused

    @asynccontextmanager
    async def consuming(
        self, prefetch: Mapping[Queue, int], receiver: Receiver
    ) -> AsyncIterator[None]:
        tried = {queue: asyncio.Event() for queue in prefetch}
        self._troubles = dict.fromkeys(prefetch, _NOT_YET)
        consuming = [
            asyncio.create_task(self._consume(queue, most, receiver, tried[queue]))
            for queue, most in prefetch.items()
        ]
        try:
            for event in tried.values():
                await event.wait()
            yield
        finally:
            for task in consuming:
                task.cancel()
            await asyncio.wait(consuming)

    async def _consume(
        self, queue: Queue, most: int, receiver: Receiver, tried: asyncio.Event
    ) -> None:
        """On a connection of its own: the client library restores all or nothing of a connection,
        so a queue that is refused would take the others with it."""
        consumer = RabbitBroker(
            self._url,
            **UNDECODED,
            reconnect_interval=1,
            timeout=PUBLISH_SECONDS,
            graceful_timeout=_GRACE_SECONDS,
            logger=_log,
        )
        self._subscribe(consumer, queue, most, receiver)
        try:
            await self._start(consumer, queue, tried)
            while True:
                await asyncio.sleep(_WATCH_SECONDS)
                await self._watch(consumer, queue)
        finally:
            await _stop(consumer, _GRACE_SECONDS + PUBLISH_SECONDS)

    def _subscribe(
        self, consumer: RabbitBroker, queue: Queue, most: int, receiver: Receiver
    ) -> None:
        @consumer.subscriber(
            _plain_queue(queue.value),
            channel=Channel(prefetch_count=most),
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )
        async def handle(message: RabbitMessage) -> None:
            await receiver(_delivery(queue, message))
            await message.ack()

    async def _start(self, consumer: RabbitBroker, queue: Queue, tried: asyncio.Event) -> None:
        """For as long as it takes. Later the client library reconnects by itself."""
        pause = 0.2
        while True:
            trouble: Exception | None = None
            try:
                await self._declare_for(queue)
                async with self._within(PUBLISH_SECONDS, queue):
                    await consumer.start()
            except Exception as error:
                trouble = error
            self._tell(queue, trouble)
            if trouble is None or isinstance(trouble, QueueRefused):
                tried.set()
            if trouble is None:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5)

    async def _watch(self, consumer: RabbitBroker, queue: Queue) -> None:
        """Whether the queue is still consumed. If it is not, ask RabbitMQ why: the library, which
        tries again every second, keeps that to itself."""
        trouble: Exception | None = None
        try:
            async with self._within(1):
                if await _is_consuming(consumer):
                    return self._tell(queue, None)
            async with (
                self._within(PUBLISH_SECONDS, queue),
                await aio_pika.connect(self._url, timeout=PUBLISH_SECONDS) as connection,
            ):
                await _declare(connection, queue)
            trouble = Unavailable(f"the queue {queue} is not consumed; trying again")
        except Exception as error:
            trouble = error
        self._tell(queue, trouble)

    def _tell(self, queue: Queue, trouble: Exception | None) -> None:
        """Once for each change, and once for all queues that have the same trouble."""
        if trouble is None:
            if self._troubles.pop(queue, _NOT_YET) != _NOT_YET:
                log.info("consuming again", queue=queue)
            return
        text = str(trouble) or repr(trouble)
        if _gist(text) not in map(_gist, self._troubles.values()):
            log.warning(text)
        self._troubles[queue] = text

    async def _declare_for(self, queue: Queue) -> None:
        """The queue, and those that nobody consumes here."""
        for name in _PUBLISHED:
            await self._ensure(name)
        async with self._within(PUBLISH_SECONDS, queue):
            await _declare(await self._connected(), queue)

    async def _ensure(self, name: str) -> None:
        """Make the queue that is published to, unless there is one: with other arguments it takes
        our messages all the same. Raises Unavailable."""
        if name in self._declared:
            return
        try:
            async with self._within(PUBLISH_SECONDS, name):
                await _declare(await self._connected(), name)
        except QueueRefused as error:
            log.warning(str(error))
        self._declared.add(name)

    async def _connected(self) -> AbstractConnection:
        async with self._connecting:
            return await self._publisher.connect()

    async def publish(self, message: Outgoing) -> None:
        await self._publish(
            message.queue,
            message.body,
            message_id=shortened(message.message_id),
            headers=dict(message.headers),
            reply_to=message.reply_to,
            content_type=shortened(message.content_type),
            persist=True,
        )

    async def _publish(self, queue: str, message: bytes | Repeated, **properties: Any) -> None:
        await self._ensure(queue)
        try:
            async with self._within(PUBLISH_SECONDS):
                await self._publisher.publish(message, queue=queue, **properties)
        except Unavailable:
            # The queue may have been deleted: declare it again next time.
            self._declared.discard(queue)
            raise

    async def reply(self, delivery: Delivery, body: bytes) -> None:
        try:
            async with self._within(PUBLISH_SECONDS):
                await self._publisher.publish(
                    body,
                    queue=delivery.reply_to,
                    correlation_id=delivery.correlation_id,
                    content_type="application/json",
                    mandatory=False,
                )
        except (Unavailable, ValueError) as error:  # ValueError: `reply_to` is not a queue name
            log.info("reply not sent", queue=delivery.queue, error=str(error))

    @asynccontextmanager
    async def replies(self, receiver: ReplyReceiver) -> AsyncIterator[str]:
        listener = RabbitBroker(
            self._url,
            **UNDECODED,
            reconnect_interval=1,
            timeout=PUBLISH_SECONDS,
            logger=_log,
        )
        queue = RabbitQueue(f"replies.{uuid4()}", exclusive=True, auto_delete=True)

        @listener.subscriber(queue, ack_policy=AckPolicy.ACK_FIRST, no_reply=True)
        async def handle(message: RabbitMessage) -> None:
            receiver(message.body)

        try:
            async with self._within(PUBLISH_SECONDS):
                await listener.start()
            yield queue.name
        finally:
            await _stop(listener, PUBLISH_SECONDS)

    async def bury(self, delivery: Delivery, why: Mapping[str, str]) -> None:
        wire = dead_wire(delivery.original.wire, why)
        await self._publish(delivery.queue.dead, Repeated(delivery.body, wire))

    async def retry(self, queue: Queue, letter: DeadLetter) -> None:
        wire = retried_wire(letter.original.wire, uuid4().hex, self._user)
        await self._publish(queue, Repeated(letter.body, wire))

    @asynccontextmanager
    async def dead_letters(self, queue: Queue) -> AsyncIterator[DeadLetters]:
        await self._ensure(queue.dead)
        async with self._within(PUBLISH_SECONDS):
            connection = await aio_pika.connect(self._url, timeout=PUBLISH_SECONDS)
        # When its connection closes, each message that was not removed returns to its old place.
        async with connection:
            async with self._within(PUBLISH_SECONDS):
                channel = await connection.channel()
                dead = await channel.declare_queue(queue.dead, passive=True)
            # A retried message may die again meanwhile: without a count there would be no end.
            count = dead.declaration_result.message_count or 0
            yield DeadLetters(count, self._letters(dead, count))

    async def _letters(self, dead: AbstractQueue, count: int) -> AsyncIterator[DeadLetter]:
        for _ in range(count):
            async with self._within(PUBLISH_SECONDS):
                message = await dead.get(fail=False)
            if message is None:
                return
            yield self._dead_letter(message)

    def _dead_letter(self, message: AbstractIncomingMessage) -> DeadLetter:
        async def remove() -> None:
            async with self._within(PUBLISH_SECONDS):
                await message.ack()

        properties = {name: getattr(message, name) for name in _SHOWN}
        return DeadLetter(
            message_id=message.message_id or "",
            body=message.body,
            properties={name: str(value) for name, value in properties.items() if value},
            headers={name: str(value) for name, value in message.headers.items()},
            original=message.headers,
            remove=remove,
        )

    async def drop_dead(self, queue: Queue, before: datetime) -> None:
        """No queue may have arguments, so RabbitMQ does not do it. Oldest first, until one is
        younger."""
        async with self.dead_letters(queue) as dead:
            async for letter in dead.letters:
                first_seen = _first_seen(letter)
                if first_seen and first_seen >= before:
                    break
                if first_seen:
                    await letter.remove()

    async def drop_reports(self, before: datetime) -> None:
        """The queue belongs to its consumers, and a policy of the operator's can bound it."""

    async def ping(self) -> None:
        async with self._within(1):
            connection = await self._connected()
            channel = await _channel(connection)
            await channel.close()
            if time.monotonic() >= self._look_at:
                self._refused = {name: why async for name, why in self._refusals(connection)}
                self._look_at = time.monotonic() + _LOOK_SECONDS

    async def _refusals(self, connection: AbstractConnection) -> AsyncIterator[tuple[str, str]]:
        for name in _ALL_QUEUES:
            try:
                async with self._within(1, name):
                    await _declare(connection, name)
            except QueueRefused as error:
                yield str(name), str(error)

    @asynccontextmanager
    async def _within(self, seconds: float, queue: str = "") -> AsyncIterator[None]:
        """A time limit. Raises Unavailable for all that the client library raises, and QueueRefused
        if RabbitMQ answers, but refuses this queue."""
        try:
            async with asyncio.timeout(seconds):
                yield
        except _FAILURES as error:
            if is_our_end(error):
                raise
            if queue and isinstance(error, ChannelClosed):
                raise QueueRefused(explain_queue(error, queue)) from error
            raise Unavailable(explain(error, self._host)) from error

    async def close(self) -> None:
        await _stop(self._publisher, PUBLISH_SECONDS)


def _first_seen(letter: DeadLetter) -> datetime | None:
    """None for a letter that is not ours."""
    try:
        moment = datetime.fromisoformat(letter.headers.get("x-first-seen", ""))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _delivery(queue: Queue, message: RabbitMessage) -> Delivery:
    raw = message.raw_message  # FastStream invents ids where the sender set none
    return Delivery(
        queue=queue,
        body=message.body,
        message_id=raw.message_id,
        redelivered=bool(raw.redelivered),
        reply_to=raw.reply_to or "",
        correlation_id=raw.correlation_id or "",
        original=raw.headers,
    )
