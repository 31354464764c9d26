"""Publish what client libraries do not: a message without a message id, as RabbitMQ's management
page does, or with properties of any bytes. So this speaks AMQP by itself."""

import io
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

from pamqp import frame
from pamqp.body import ContentBody
from pamqp.commands import Basic, Channel, Confirm, Connection
from pamqp.header import ContentHeader

_PROTOCOL = b"AMQP\x00\x00\x09\x01"
_CHUNK = 100_000


class _Wire:
    def __init__(self, stream: io.BufferedRWPair) -> None:
        self._stream = stream

    def send(self, channel: int, *frames: Any) -> None:
        self._stream.write(b"".join(frame.marshal(one, channel) for one in frames))
        self._stream.flush()

    def call(self, channel: int, method: Any, reply: type[Any]) -> None:
        self.send(channel, method)
        self.expect(reply)

    def expect(self, kind: type[Any]) -> None:
        head = self._stream.read(7)
        rest = self._stream.read(int.from_bytes(head[3:7], "big") + 1)
        received = frame.unmarshal(head + rest)[2]
        assert isinstance(received, kind), vars(received)


@contextmanager
def _connected(url: str) -> Iterator[_Wire]:
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 5672)
    login = f"\0{parts.username}\0{parts.password}"
    with (
        socket.create_connection(address, timeout=5) as connection,
        connection.makefile("rwb") as stream,
    ):
        stream.write(_PROTOCOL)
        stream.flush()
        wire = _Wire(stream)
        wire.expect(Connection.Start)
        wire.call(0, Connection.StartOk({}, response=login), Connection.Tune)
        wire.send(0, Connection.TuneOk(2047, 131_072, 0))
        wire.call(0, Connection.Open(unquote(parts.path[1:])), Connection.OpenOk)
        yield wire
        wire.call(0, Connection.Close(200, "", 0, 0), Connection.CloseOk)


def publish_bare(url: str, queue: str, body: bytes, reply_to: str = "") -> None:
    """Return once the broker has confirmed the message."""
    properties = Basic.Properties(
        content_type="application/json", delivery_mode=2, reply_to=reply_to or None
    )
    publish_properties(url, queue, body, properties)


def publish_properties(url: str, queue: str, body: bytes, properties: Basic.Properties) -> None:
    """Return once the broker has confirmed the message. `properties` may marshal to any bytes.
    Raises AssertionError if the broker refuses it."""
    with _connected(url) as wire:
        wire.call(1, Channel.Open(), Channel.OpenOk)
        wire.call(1, Confirm.Select(), Confirm.SelectOk)
        chunks = [ContentBody(body[i : i + _CHUNK]) for i in range(0, len(body), _CHUNK)]
        head = ContentHeader(body_size=len(body), properties=properties)
        wire.send(1, Basic.Publish(routing_key=queue), head, *chunks)
        wire.expect(Basic.Ack)
