"""Consuming queues of RabbitMQ: each for itself, and watched, so that one that RabbitMQ refuses
keeps no other waiting."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aio_pika import IncomingMessage
from aio_pika.abc import AbstractIncomingMessage
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

from app.errors import Unavailable
from app.messaging.broker import PUBLISH_SECONDS, Delivery, Receiver
from app.messaging.rabbitmq_acks import Acknowledgements
from app.messaging.rabbitmq_server import QueueRefused, RabbitMQServer, declare, stop
from app.queues import Queue

log = structlog.get_logger(__name__)

_GRACE_SECONDS = 8
_WATCH_SECONDS = 1
_NOT_YET = "not consumed yet"

# With its own, aio_pika asks for each of the two dozen fields of a delivery whether the message is
# locked, which takes longer than to make the message.
IncomingMessage.__setattr__ = object.__setattr__  # type: ignore[method-assign, assignment]


class RabbitMQConsumers:
    """`troubles` are the queues that should be consumed and are not, and why.

    `prepare` declares a queue, and all that must exist before it is consumed. Raises
    Unavailable."""

    def __init__(self, server: RabbitMQServer, prepare: Callable[[Queue], Awaitable[None]]) -> None:
        self._server = server
        self._prepare = prepare
        self.troubles: dict[Queue, str] = {}

    @asynccontextmanager
    async def consuming(
        self, prefetch: Mapping[Queue, int], receiver: Receiver
    ) -> AsyncIterator[None]:
        tried = {queue: asyncio.Event() for queue in prefetch}
        self.troubles = dict.fromkeys(prefetch, _NOT_YET)
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
        consumer = self._server.client(graceful_timeout=_GRACE_SECONDS)
        self._subscribe(consumer, queue, most, receiver)
        try:
            await self._start(consumer, queue, tried)
            while True:
                await asyncio.sleep(_WATCH_SECONDS)
                await self._watch(consumer, queue)
        finally:
            await stop(consumer, _GRACE_SECONDS + PUBLISH_SECONDS)

    def _subscribe(
        self, consumer: RabbitBroker, queue: Queue, most: int, receiver: Receiver
    ) -> None:
        subscriber = consumer.subscriber(
            _plain_queue(queue.value),
            channel=Channel(prefetch_count=most),
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )
        acknowledgements = Acknowledgements()

        async def handle(message: AbstractIncomingMessage) -> None:
            with subscriber.lock:  # FastStream waits for it when it stops
                acknowledgements.took(message)
                await receiver(_delivery(queue, message))
                await acknowledgements.send(message)

        # FastStream consumes only for a handler. What it does before it calls one, middlewares,
        # decoding and injection, we have no use for, and it takes longer than to place an order.
        subscriber(handle)
        subscriber.process_message = handle  # type: ignore[method-assign, assignment]

    async def _start(self, consumer: RabbitBroker, queue: Queue, tried: asyncio.Event) -> None:
        """For as long as it takes. Later the client library reconnects by itself."""
        pause = 0.2
        while True:
            trouble: Exception | None = None
            try:
                await self._prepare(queue)
                async with self._server.within(PUBLISH_SECONDS, queue):
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
            async with self._server.within(1):
                if await _is_consuming(consumer):
                    return self._tell(queue, None)
            async with (
                self._server.within(PUBLISH_SECONDS, queue),
                await self._server.connect() as connection,
            ):
                await declare(connection, queue)
            trouble = Unavailable(f"the queue {queue} is not consumed; trying again")
        except Exception as error:
            trouble = error
        self._tell(queue, trouble)

    def _tell(self, queue: Queue, trouble: Exception | None) -> None:
        """Once for each change, and once for all queues that have the same trouble."""
        if trouble is None:
            if self.troubles.pop(queue, _NOT_YET) != _NOT_YET:
                log.info("consuming again", queue=queue)
            return
        text = str(trouble) or repr(trouble)
        if _gist(text) not in map(_gist, self.troubles.values()):
            log.warning(text)
        self.troubles[queue] = text


def _plain_queue(name: str) -> RabbitQueue:
    """Declared without arguments, so that a client that declares it plainly never gets a 406.

    FastStream would name the type classic, which conflicts with a vhost whose default is quorum."""
    queue = RabbitQueue(name, durable=True)
    queue.arguments = {}
    return queue


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


def _delivery(queue: Queue, message: AbstractIncomingMessage) -> Delivery:
    return Delivery(
        queue=queue,
        body=message.body,
        message_id=message.message_id,
        redelivered=bool(message.redelivered),
        reply_to=message.reply_to or "",
        correlation_id=message.correlation_id or "",
        original=message.headers,
    )
