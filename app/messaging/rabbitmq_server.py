"""A RabbitMQ server as every client of ours sees it: connections, time limits, and whose fault a
failure is."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelClosed
from aio_pika.robust_connection import RobustConnection
from aiormq.abc import AbstractChannel
from faststream.rabbit import RabbitBroker
from faststream.security import BaseSecurity
from yarl import URL

from app.errors import Unavailable
from app.messaging.amqp import explain, explain_queue
from app.messaging.broker import PUBLISH_SECONDS, QueueState
from app.messaging.properties import accept_any_properties
from app.runtime.cancellation import is_our_end
from app.server_addresses import RabbitMQAddress

_log = logging.getLogger("app.faststream")

# aiormq raises bare ConnectionError, RuntimeError and even CancelledError when a connection dies.
_FAILURES = (AMQPError, OSError, RuntimeError, asyncio.CancelledError)
_HEARTBEAT_SECONDS = 10


accept_any_properties()


class QueueRefused(Unavailable):
    """RabbitMQ answers, but the queue has other arguments or an owner, or we no permission."""


def connection_class(address: RabbitMQAddress) -> type[RobustConnection]:
    """Of connections that log in with the password of the moment, each time they are restored."""

    class Connection(RobustConnection):
        @property
        def url(self) -> URL:
            return self._url.with_password(address.password())

        @url.setter
        def url(self, url: URL) -> None:
            self._url = url

    return Connection


class RabbitMQServer:
    def __init__(self, address: RabbitMQAddress) -> None:
        self._address = address
        host, _, _ = address.place.rpartition("/")
        self.place = f"RabbitMQ at {host}, vhost {address.vhost}"
        self.user = address.user

    @property
    def _url(self) -> str:
        # The client library's default is 60 s, and it gives a hung server three times as long.
        return f"{self._address.url}?heartbeat={_HEARTBEAT_SECONDS}"

    def client(self, **options: Any) -> RabbitBroker:
        """One that reconnects by itself, once it has started."""
        client = RabbitBroker(
            self._url,
            security=BaseSecurity(self._address.tls, use_ssl=self._address.tls is not None),
            reconnect_interval=1,
            timeout=PUBLISH_SECONDS,
            logger=_log,
            **options,
        )
        # pylint: disable-next=protected-access
        client._connection_kwargs["connection_class"] = connection_class(self._address)
        return client

    async def connect(self) -> AbstractConnection:
        """A connection that is not restored when it breaks."""
        return await aio_pika.connect(
            self._url, ssl_context=self._address.tls, timeout=PUBLISH_SECONDS
        )

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
            raise Unavailable(explain(error, self._address.place)) from error


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


async def state_of(connection: AbstractConnection, name: str) -> QueueState:
    """Raises ChannelClosed if there is no such queue. What consumers hold is not counted."""
    channel = await open_channel(connection)
    try:
        declared = await channel.queue_declare(name, passive=True)
    finally:
        await channel.close()
    return QueueState(declared.message_count or 0, declared.consumer_count or 0)
