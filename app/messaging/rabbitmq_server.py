"""A RabbitMQ server as every client of ours sees it: connections, time limits, and whose fault a
failure is."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelClosed
from aiormq.abc import AbstractChannel
from faststream.rabbit import RabbitBroker

from app.errors import Unavailable
from app.messaging.amqp import explain, explain_queue
from app.messaging.broker import PUBLISH_SECONDS
from app.messaging.properties import accept_any_properties
from app.runtime.cancellation import is_our_end

_log = logging.getLogger("app.faststream")

# aiormq raises bare ConnectionError, RuntimeError and even CancelledError when a connection dies.
_FAILURES = (AMQPError, OSError, RuntimeError, asyncio.CancelledError)
_HEARTBEAT_SECONDS = 10


accept_any_properties()


class QueueRefused(Unavailable):
    """RabbitMQ answers, but the queue has other arguments or an owner, or we no permission."""


class RabbitMQServer:
    def __init__(self, url: str) -> None:
        # The client library's default is 60 s, and it gives a hung server three times as long.
        self._url = f"{url}?heartbeat={_HEARTBEAT_SECONDS}"
        self._host = url.rpartition("@")[2]
        address, _, vhost = self._host.rpartition("/")
        self.place = f"RabbitMQ at {address}, vhost {unquote(vhost)}"
        self.user = unquote(urlsplit(url).username or "")

    def client(self, **options: Any) -> RabbitBroker:
        """One that reconnects by itself, once it has started."""
        return RabbitBroker(
            self._url, reconnect_interval=1, timeout=PUBLISH_SECONDS, logger=_log, **options
        )

    async def connect(self) -> AbstractConnection:
        """A connection that is not restored when it breaks."""
        return await aio_pika.connect(self._url, timeout=PUBLISH_SECONDS)

    @asynccontextmanager
    async def within(self, seconds: float, queue: str = "") -> AsyncIterator[None]:
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


async def stop(broker: RabbitBroker, seconds: float) -> None:
    """Stop, or give up after `seconds`: a frozen RabbitMQ would keep us waiting, even for the end
    of a cancelled stop."""
    stopping = asyncio.create_task(broker.stop())
    await asyncio.wait({stopping}, timeout=seconds)
    if stopping.done():
        stopping.result()


async def open_channel(connection: AbstractConnection) -> AbstractChannel:
    """One without the client library's means to restore it: a refusal closes it."""
    if connection.transport is None:
        raise ConnectionError("not connected")
    return await connection.transport.connection.channel(publisher_confirms=False)


async def declare(connection: AbstractConnection, name: str) -> None:
    """Durable and without arguments, as any client may. Raises ChannelClosed if that is refused."""
    channel = await open_channel(connection)
    try:
        await channel.queue_declare(name, durable=True)
    finally:
        await channel.close()
