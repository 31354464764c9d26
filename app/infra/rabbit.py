"""The queues on RabbitMQ."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import structlog
from aio_pika.exceptions import AMQPError
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitMessage, RabbitQueue

from app.errors import Unavailable
from app.infra.broker import PUBLISH_SECONDS, Broker, Delivery, Outgoing, Receiver
from app.schemas.messages import CONSUMED, Queue

log = structlog.get_logger(__name__)
_log = logging.getLogger(__name__)

# aiormq raises bare ConnectionError, RuntimeError and even CancelledError when a connection dies.
_FAILURES = (AMQPError, OSError, RuntimeError, asyncio.CancelledError)
_GRACE_SECONDS = 8
_ALL_QUEUES = (*Queue, *(queue.dead for queue in CONSUMED))


async def _keep_bytes(message: RabbitMessage) -> bytes:
    """FastStream would decode JSON before the handler, where a failure is out of our hands."""
    return message.body


def explain(error: BaseException, url_host: str) -> str:
    """One line that names the variable to look at."""
    text = str(error)
    if "ACCESS_REFUSED" in text or "403" in text:
        return f"RabbitMQ refused the login: see RABBITMQ_USER and RABBITMQ_PASSWORD ({text})"
    if "vhost" in text.lower() or "NOT_ALLOWED" in text:
        return f"RabbitMQ has no such vhost: see RABBITMQ_VHOST, or create it ({text})"
    return f"RabbitMQ does not answer at {url_host}: see RABBITMQ_HOST and RABBITMQ_PORT ({text})"


class RabbitMQ(Broker):
    def __init__(self, url: str) -> None:
        self._url = url
        self._host = url.rpartition("@")[2]
        self._publisher = RabbitBroker(
            url,
            default_channel=Channel(on_return_raises=True),
            reconnect_interval=1,
            timeout=PUBLISH_SECONDS,
            logger=_log,
        )
        self._connecting = asyncio.Lock()
        self._declared = False

    @asynccontextmanager
    async def consuming(
        self, queues: Iterable[Queue], receiver: Receiver, concurrency: int
    ) -> AsyncIterator[None]:
        consumer = RabbitBroker(
            self._url,
            default_channel=Channel(prefetch_count=concurrency),
            decoder=_keep_bytes,
            reconnect_interval=1,
            timeout=PUBLISH_SECONDS,
            graceful_timeout=_GRACE_SECONDS,
            logger=_log,
        )
        for queue in queues:
            self._subscribe(consumer, queue, receiver)
        await self._start(consumer)
        try:
            yield
        finally:
            await consumer.stop()

    def _subscribe(self, consumer: RabbitBroker, queue: Queue, receiver: Receiver) -> None:
        # No arguments: a client that declares the queue plainly must not meet a 406.
        @consumer.subscriber(
            RabbitQueue(queue.value, durable=True), ack_policy=AckPolicy.MANUAL, no_reply=True
        )
        async def handle(message: RabbitMessage) -> None:
            await receiver(_delivery(queue, message))
            await message.ack()

    async def _start(self, consumer: RabbitBroker) -> None:
        """Wait for RabbitMQ at the start as long as it takes; later the connection heals itself."""
        pause = 0.2
        while True:
            try:
                await self._declare_all()
                return await consumer.start()
            except Unavailable as error:
                log.warning(str(error))
            except (AMQPError, OSError) as error:
                log.warning(explain(error, self._host))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5)

    async def _declare_all(self) -> None:
        try:
            async with asyncio.timeout(PUBLISH_SECONDS), self._connecting:
                await self._publisher.connect()
                for name in _ALL_QUEUES:
                    await self._publisher.declare_queue(RabbitQueue(name, durable=True))
                self._declared = True
        except (AMQPError, OSError) as error:
            raise Unavailable(explain(error, self._host)) from error

    async def publish(self, message: Outgoing) -> None:
        if not self._declared:
            await self._declare_all()
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._publisher.publish(
                    message.body,
                    queue=message.queue,
                    message_id=message.message_id,
                    headers=dict(message.headers),
                    reply_to=message.reply_to,
                    content_type=message.content_type,
                    persist=True,
                )
        except _FAILURES as error:
            self._declared = False  # the queue may have been deleted: declare it next time
            if isinstance(error, asyncio.CancelledError) and asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            raise Unavailable(f"RabbitMQ did not confirm: {error!r}") from error

    async def reply(self, delivery: Delivery, body: bytes) -> None:
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._publisher.publish(
                    body,
                    queue=delivery.reply_to,
                    correlation_id=delivery.correlation_id,
                    content_type="application/json",
                    mandatory=False,
                )
        except (AMQPError, OSError, RuntimeError) as error:
            log.info("reply not sent", queue=delivery.queue, error=repr(error))

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(1), self._connecting:
                connection = await self._publisher.connect()
                channel = await connection.channel()
                await channel.close()
        except _FAILURES as error:
            raise Unavailable(explain(error, self._host)) from error

    async def close(self) -> None:
        await self._publisher.stop()


def _delivery(queue: Queue, message: RabbitMessage) -> Delivery:
    raw = message.raw_message  # FastStream invents ids where the sender set none
    return Delivery(
        queue=queue,
        body=message.body,
        message_id=raw.message_id,
        redelivered=bool(raw.redelivered),
        reply_to=raw.reply_to or "",
        correlation_id=raw.correlation_id or "",
        headers=raw.headers,
    )
