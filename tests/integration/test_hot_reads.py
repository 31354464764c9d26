"""Hot reads: the protocol sends exactly what the application would send."""

# pylint: disable=redefined-outer-name,unused-argument

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

import httpx
import pytest
import uvicorn
from litestar.types import Receive, Scope, Send
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from app import web
from app.cache import store
from app.container import Container
from app.embedded import Valkey
from app.rest.asgi.hot_reads import HotProtocol, HotReads
from app.rest.asgi.protocol import Protocol
from harness.dependencies import Dependencies
from harness.shop import Shop
from harness.waiting import eventually

ELSEWHERE = b"HTTP/1.1 418"


async def _elsewhere(_: Scope, __: Receive, send: Send) -> None:
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


@pytest.fixture
async def hot(container: Container) -> AsyncIterator[Served]:
    """The protocol alone: what it leaves to the application is 418."""
    reads = HotReads(container)
    async with served(_elsewhere, lambda **given: HotProtocol(reads, **given)) as server:
        yield server


@pytest.fixture
async def application(client: httpx.AsyncClient, container: Container) -> AsyncIterator[Served]:
    """The application behind the protocol that knows no hot reads."""
    async with served(web.create_app(container), Protocol) as server:
        yield server


@pytest.fixture
async def paths(shop: Shop, client: httpx.AsyncClient) -> list[bytes]:
    """The paths of a user and of a product that the service has cached."""
    paths = [f"/users/{shop.user_id}", f"/products/{await shop.product()}"]

    async def cached() -> bool:
        with capture_logs() as lines:
            for path in paths:
                await client.get(path)
        return [line["event"] for line in lines].count("cache hit") == len(paths)

    await eventually(cached)
    return [path.encode() for path in paths]


def get(path: bytes, *headers: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    head = [b"%s %s HTTP/%s" % (method, path, version), b"Host: localhost", b"X-Request-Id: same"]
    return b"\r\n".join([*head, *headers, b"", b""])


CLOSE = b"Connection: close"


def _counted() -> dict[str, float]:
    return {
        str((sample.name, sample.labels)): sample.value
        for metric in REGISTRY.collect()
        if metric.name in ("http_requests", "http_request_seconds", "cache_reads")
        for sample in metric.samples
        if sample.name.endswith(("_total", "_count"))
    }


async def seen(server: Served, *requests: bytes) -> tuple[bytes, list[Any], list[Any]]:
    """The answer, the log lines, and what the metrics have counted."""
    before = _counted()
    with capture_logs() as captured:
        answer = await server.answer(*requests)
    lines: list[Any] = [line for line in captured if line["event"] == "request"]
    assert all(line.pop("milliseconds") >= 0 for line in lines)
    counted = [(k, v - before.get(k, 0)) for k, v in _counted().items() if v != before.get(k, 0)]
    return answer, lines, counted


async def test_hits(paths: list[bytes], hot: Served, application: Served) -> None:
    for path in paths:
        for requests in (
            [get(path, CLOSE)],
            [get(path, version=b"1.0")],
            [get(path, b"X-Request-Id: %s" % (b"x" * 129), CLOSE)],
            [get(path), get(path), get(path, CLOSE)],
        ):
            # Not at once, where the trust window of a slow machine is closed for a moment.
            await eventually(partial(_are_alike, hot, application, requests))


async def _are_alike(hot: Served, application: Served, requests: list[bytes]) -> bool:
    ours, theirs = await seen(hot, *requests), await seen(application, *requests)
    answer, lines, counted = ours
    are_hits = answer.count(b"HTTP/1.1 200") == len(lines) == len(requests) and counted
    return bool(are_hits) and _without_random_ids(ours) == _without_random_ids(theirs)


def _without_random_ids(what: object) -> str:
    return re.sub("[0-9a-f]{32}", "random", repr(what))


async def test_the_rest_is_left_to_the_application(paths: list[bytes], hot: Served) -> None:
    known = paths[0]
    for request in (
        get(known, CLOSE, method=b"HEAD"),
        get(known, CLOSE, method=b"DELETE"),
        get(known + b"?x=1", CLOSE),
        get(known + b"/", CLOSE),
        get(b"/users/0" + known[-1:], CLOSE),
        get(b"/users/9007199254740993", CLOSE),
        get(b"http://localhost" + known, CLOSE),
        get(known, b"If-None-Match: *", CLOSE),
        get(known, b"Content-Length: 1", CLOSE) + b"x",
        get(known, CLOSE).replace(b"localhost", b"evil.example"),
        get(known, CLOSE).replace(b"Host: localhost\r\n", b"Host:\r\n"),
        get(b"/users/77", CLOSE),
    ):
        assert (await hot.answer(request)).startswith(ELSEWHERE), request


async def test_a_miss_keeps_its_place_among_the_requests_of_its_connection(
    paths: list[bytes], hot: Served
) -> None:
    answer = await hot.answer(get(paths[0]), get(b"/users/77"), get(paths[1], CLOSE))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"418", b"200"]


async def test_without_the_api_key(dependencies: Dependencies) -> None:
    async with AsyncExitStack() as stack:
        container = await stack.enter_async_context(
            Container.open(dependencies.settings(api_key="k" * 32))
        )
        reads = HotReads(container)
        server = await stack.enter_async_context(
            served(web.create_app(container), lambda **given: HotProtocol(reads, **given))
        )
        assert b" 401 " in await server.answer(get(b"/users/1", CLOSE))
        assert b" 404 " in await server.answer(get(b"/users/1", b"X-API-Key: " + b"k" * 32, CLOSE))


async def test_without_redis(paths: list[bytes], container: Container, valkey: Valkey) -> None:
    """The same protocol in front of the application: the database answers."""
    reads = HotReads(container)
    app = web.create_app(container)
    async with served(app, lambda **given: HotProtocol(reads, **given)) as server:
        await valkey.stop()
        for path in paths:
            assert b" 200 " in await server.answer(get(path, CLOSE))


@pytest.mark.parametrize("row", ["hit", "miss"])
async def test_a_read_in_hand_when_the_server_stops_is_the_last_of_its_connection(
    row: str, paths: list[bytes], hot: Served, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CALL_SECONDS", 10)
    path = paths[0] if row == "hit" else b"/users/77"
    reader, writer = await asyncio.open_connection("127.0.0.1", hot.port)
    valkey.pause()
    writer.write(get(path))
    await eventually(lambda: any(_has_read(c) for c in hot.state.connections))
    for connection in hot.state.connections:
        connection.shutdown()
    valkey.resume()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 200" if row == "hit" else ELSEWHERE)


def _has_read(connection: Any) -> bool:
    return connection.cycle is not None


async def test_a_client_may_leave_before_its_answer(
    paths: list[bytes], hot: Served, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CALL_SECONDS", 10)
    _, writer = await asyncio.open_connection("127.0.0.1", hot.port)
    valkey.pause()
    writer.write(get(paths[0]))
    await eventually(lambda: any(_has_read(c) for c in hot.state.connections))
    writer.transport.abort()
    await eventually(lambda: not hot.state.connections)
    valkey.resume()
    assert (await hot.answer(get(paths[0], CLOSE))).startswith(b"HTTP/1.1 200")
