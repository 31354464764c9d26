"""Newcomers wait for one turn of the event loop, however many they are."""

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from app.rest.asgi import acceptor
from app.rest.asgi.acceptor import Acceptor
from harness.waiting import eventually

CLIENTS = 50


class _Protocol(asyncio.Protocol):
    def __init__(self, made: list[asyncio.BaseTransport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.append(transport)


class _Exhausted(socket.socket):
    """As if the process had no descriptor left."""

    failures = 1

    def accept(self) -> Any:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


@pytest.fixture(name="clients")
def _clients() -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    yield opened
    for client in opened:
        client.close()


def _listening(kind: type[socket.socket]) -> socket.socket:
    listening = kind()
    listening.bind(("127.0.0.1", 0))
    return listening


async def test_all_that_wait_are_accepted_in_one_turn(clients: list[socket.socket]) -> None:
    made: list[asyncio.BaseTransport] = []
    with closing(_listening(socket.socket)) as listening:
        server = Acceptor(listening, lambda: _Protocol(made))
        clients += [socket.create_connection(listening.getsockname()) for _ in range(CLIENTS)]
        for _ in range(5):  # one accepts; the event loop opens the transports in the next ones
            await asyncio.sleep(0)
        assert len(made) == CLIENTS
        server.close()
        for transport in made:
            transport.close()


async def test_who_has_connected_before_the_end_is_served(clients: list[socket.socket]) -> None:
    made: list[asyncio.BaseTransport] = []
    listening = _listening(socket.socket)
    server = Acceptor(listening, lambda: _Protocol(made))
    clients += [socket.create_connection(listening.getsockname()) for _ in range(CLIENTS)]
    server.close()
    await eventually(lambda: len(made) == CLIENTS)
    for transport in made:
        transport.close()


async def test_out_of_descriptors_it_tries_again(
    clients: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE_SECONDS", 0.01)
    made: list[asyncio.BaseTransport] = []
    with closing(_listening(_Exhausted)) as listening:
        server = Acceptor(listening, lambda: _Protocol(made))
        clients.append(socket.create_connection(listening.getsockname()))
        await eventually(lambda: made)
        server.close()
        made[0].close()
