"""The queues on RabbitMQ."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from typing import Any
from uuid import uuid4

import structlog
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage, AbstractQueue
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitMessage, RabbitQueue

from app.errors import Unavailable
from app.messaging.amqp import shortened
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
from app.messaging.properties import Repeated, dead_wire, retried_wire
from app.messaging.rabbitmq_consumers import RabbitMQConsumers
from app.messaging.rabbitmq_server import (
    QueueRefused,
    RabbitMQServer,
    declare,
    state_of,
    stop,
)
from app.messaging.undecoded import UNDECODED
from app.queues import CONSUMED, DEAD_TASKS, Queue
from app.server_addresses import RabbitMQAddress

log = structlog.get_logger(__name__)

# The properties of a dead letter that people are shown.
_SHOWN = (
    *("content_type", "content_encoding", "priority", "correlation_id", "reply_to"),
    *("timestamp", "type", "app_id"),
)
_LOOK_SECONDS = 5
_STATE_SECONDS = 3
# A queue that does not exist.
_PROBE = "order-service.probe"
_ALL_QUEUES = (*Queue, *(queue.dead for queue in CONSUMED))
_PUBLISHED = [name for name in _ALL_QUEUES if name not in CONSUMED]


class RabbitMQ(Broker):
    def __init__(self, address: RabbitMQAddress) -> None:
        self._server = RabbitMQServer(address)
        self.place = self._server.place
        self._publisher = self._server.client(default_channel=Channel(on_return_raises=True))
        # One that never publishes: RabbitMQ in an alarm listens to no other.
        self._observer = self._server.client()
        self._consumers = RabbitMQConsumers(self._server, self._declare_for)
        self._connecting = asyncio.Lock()
        self._declared: set[str] = set()
        self._refused: dict[str, str] = {}
        self._look_at = 0.0

    def consuming(
        self, prefetch: Mapping[Queue, int], receiver: Receiver
    ) -> AbstractAsyncContextManager[None]:
        return self._consumers.consuming(prefetch, receiver)

    @property
    def troubles(self) -> Mapping[Queue, str]:
        return self._consumers.troubles

    @property
    def refused(self) -> Mapping[str, str]:
        return self._refused

    async def states(self, *further: str) -> Mapping[str, QueueState]:
        states = {}
        async with self._server.within(_STATE_SECONDS):
            connection = await self._observer.connect()
            for name in (*_ALL_QUEUES, *further):
                with suppress(QueueRefused):  # it does not exist, or is no business of this user's
                    async with self._server.within(_STATE_SECONDS, name):
                        states[str(name)] = await state_of(connection, name)
        return states

    async def _declare_for(self, queue: Queue) -> None:
        """The queue, and those that nobody consumes here."""
        for name in _PUBLISHED:
            await self._ensure(name)
        async with self._server.within(PUBLISH_SECONDS, queue):
            await declare(await self._connected(), queue)

    async def _ensure(self, name: str) -> None:
        """Make the queue that is published to, unless there is one: with other arguments it takes
        our messages all the same. Raises Unavailable."""
        if name in self._declared:
            return
        try:
            async with self._server.within(PUBLISH_SECONDS, name):
                await declare(await self._connected(), name)
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
            async with self._server.within(PUBLISH_SECONDS):
                await self._publisher.publish(message, queue=queue, **properties)
        except Unavailable:
            # The queue may have been deleted: declare it again next time.
            self._declared.discard(queue)
            raise

    async def reply(self, delivery: Delivery, body: bytes) -> None:
        try:
            async with self._server.within(PUBLISH_SECONDS):
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
        listener = self._server.client(**UNDECODED)
        queue = RabbitQueue(f"replies.{uuid4()}", exclusive=True, auto_delete=True)

        @listener.subscriber(queue, ack_policy=AckPolicy.ACK_FIRST, no_reply=True)
        async def handle(message: RabbitMessage) -> None:
            receiver(message.body)

        try:
            async with self._server.within(PUBLISH_SECONDS):
                await listener.start()
            yield queue.name
        finally:
            await stop(listener, PUBLISH_SECONDS)

    async def bury(self, delivery: Delivery, why: Mapping[str, str]) -> None:
        wire = dead_wire(delivery.original.wire, why)
        await self._publish(delivery.queue.dead, Repeated(delivery.body, wire))

    async def retry(self, queue: Queue, letter: DeadLetter) -> str:
        message_id = letter.message_id or uuid4().hex
        wire = retried_wire(letter.original.wire, message_id, self._server.user)
        await self._publish(queue, Repeated(letter.body, wire))
        return message_id

    @asynccontextmanager
    async def dead_letters(self, queue: Queue) -> AsyncIterator[DeadLetters]:
        await self._ensure(queue.dead)
        async with self._letters_in(queue.dead) as dead:
            yield dead

    @asynccontextmanager
    async def _letters_in(self, name: str) -> AsyncIterator[DeadLetters]:
        async with self._server.within(PUBLISH_SECONDS):
            connection = await self._server.connect()
        # When its connection closes, each message that was not removed returns to its old place.
        async with connection:
            async with self._server.within(PUBLISH_SECONDS, name):
                channel = await connection.channel()
                dead = await channel.declare_queue(name, passive=True)
            # A retried message may die again meanwhile: without a count there would be no end.
            count = dead.declaration_result.message_count or 0
            yield DeadLetters(count, self._letters(dead, count))

    async def _letters(self, dead: AbstractQueue, count: int) -> AsyncIterator[DeadLetter]:
        for _ in range(count):
            async with self._server.within(PUBLISH_SECONDS, dead.name):
                message = await dead.get(fail=False)
            if message is None:
                return
            yield self._dead_letter(message)

    def _dead_letter(self, message: AbstractIncomingMessage) -> DeadLetter:
        async def remove() -> None:
            async with self._server.within(PUBLISH_SECONDS):
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

    async def drop_dead(self, before: datetime) -> None:
        """No queue may have arguments, so RabbitMQ does not do it."""
        for name in (*(queue.dead for queue in CONSUMED), DEAD_TASKS):
            with suppress(QueueRefused):  # or it does not exist, or is no business of this user's
                await self._drop_from(name, before)

    async def _drop_from(self, name: str, before: datetime) -> None:
        """Oldest first, until one is younger."""
        async with self._letters_in(name) as dead:
            async for letter in dead.letters:
                since = _dead_since(letter)
                if since and since >= before:
                    break
                if since:
                    await letter.remove()

    async def drop_reports(self, before: datetime) -> None:
        """The queue belongs to its consumers, and a policy of the operator's can bound it."""

    async def ping(self) -> None:
        async with self._server.within(1):
            connection = await self._connected()
            # To no queue. In a memory or disk alarm RabbitMQ answers all but those who publish.
            await self._publisher.publish(b"", queue=_PROBE, mandatory=False)
            if time.monotonic() >= self._look_at:
                self._refused = {name: why async for name, why in self._refusals(connection)}
                self._look_at = time.monotonic() + _LOOK_SECONDS

    async def _refusals(self, connection: AbstractConnection) -> AsyncIterator[tuple[str, str]]:
        for name in _ALL_QUEUES:
            try:
                async with self._server.within(1, name):
                    await declare(connection, name)
            except QueueRefused as error:
                yield str(name), str(error)

    async def close(self) -> None:
        await asyncio.gather(
            *(stop(client, PUBLISH_SECONDS) for client in (self._publisher, self._observer))
        )


def _dead_since(letter: DeadLetter) -> datetime | None:
    """None for a letter that neither we nor RabbitMQ put there."""
    moment: Any = None
    with suppress(LookupError, TypeError):
        moment = letter.original["x-death"][0]["time"]
    with suppress(ValueError):
        moment = datetime.fromisoformat(letter.headers.get("x-first-seen", ""))
    return moment if isinstance(moment, datetime) and moment.tzinfo else None
