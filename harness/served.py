"""A protocol that listens in this process, with an application behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from litestar.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app import web
from app.container import Container
from app.rest.asgi.direct_protocol import DirectProtocol, WaitingRoom
from app.rest.asgi.fast_path import FastPath
from app.rest.asgi.places import Places
from app.rest.asgi.rate_limit import RateLimit

ELSEWHERE = b"HTTP/1.1 418"


async def elsewhere(_: Scope, __: Receive, send: Send) -> None:
    """An application that answers 418 to everything: what the protocol leaves to it."""
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 418, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class Served:
    """A listening protocol, and the bytes that it sends."""

    def __init__(self, server: asyncio.Server, state: ServerState) -> None:
        self.port = server.sockets[0].getsockname()[1]
        self.state = state

    async def answer(self, *requests: bytes) -> bytes:
        """To requests on one connection, the last of which must close it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"".join(requests))
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def served(app: Any, protocol: Callable[..., asyncio.Protocol]) -> AsyncIterator[Served]:
    config = uvicorn.Config(app, log_config=None, access_log=False)
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"today")]
    loop = asyncio.get_running_loop()

    def connection() -> asyncio.Protocol:
        return protocol(config=config, server_state=state, app_state={}, _loop=loop)

    server = await loop.create_server(connection, "127.0.0.1", 0)
    try:
        yield Served(server, state)
    finally:
        server.close()
        for task in [*state.tasks]:
            await task


def direct(
    container: Container, places: Places, rate_limit: RateLimit | None = None
) -> Callable[..., asyncio.Protocol]:
    """The protocol of the service."""
    room = WaitingRoom(places, container.settings, rate_limit)
    path = FastPath(container, rate_limit)
    return lambda **given: DirectProtocol(path, room, **given)


@asynccontextmanager
async def as_served(container: Container) -> AsyncIterator[Served]:
    """The application behind the protocol, as the service runs them."""
    places = web.new_places()
    async with served(web.create_app(container, places), direct(container, places)) as server:
        yield server
