"""The fast path: the protocol sends exactly what the application would send."""

# pylint: disable=redefined-outer-name,unused-argument

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from app import web
from app.cache import store
from app.container import Container
from app.embedded import Valkey
from app.rest.asgi.protocol import Protocol
from harness.databases import no_database
from harness.dependencies import Dependencies
from harness.served import ELSEWHERE, Served, as_served, direct, elsewhere, served
from harness.shop import Shop
from harness.waiting import eventually

CLOSE = b"Connection: close"
UNKNOWN = b"9007199254740991"


@pytest.fixture
async def fast(container: Container) -> AsyncIterator[Served]:
    """The protocol alone: what it leaves to the application is 418."""
    async with served(elsewhere, direct(container, web.new_places())) as server:
        yield server


@pytest.fixture
async def application(client: httpx.AsyncClient, container: Container) -> AsyncIterator[Served]:
    """The application behind the protocol that knows no fast path."""
    async with served(web.create_app(container, web.new_places()), Protocol) as server:
        yield server


@pytest.fixture
async def paths(shop: Shop, client: httpx.AsyncClient, valkey: Valkey) -> list[bytes]:
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


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d+)", answer)]


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


async def both(fast: Served, application: Served, status: int, *requests: bytes) -> None:
    """Not at once, where the trust window of a slow machine is closed for a moment."""

    async def are_alike() -> bool:
        ours, theirs = await seen(fast, *requests), await seen(application, *requests)
        assert statuses(ours[0]) == [status] * len(requests)
        assert len(ours[1]) == len(requests)
        return _without_random_ids(ours) == _without_random_ids(theirs)

    await eventually(are_alike)


def _without_random_ids(what: object) -> str:
    return re.sub("[0-9a-f]{32}", "random", repr(what))


async def test_hits(paths: list[bytes], fast: Served, application: Served) -> None:
    for path in paths:
        for requests in (
            [get(path, CLOSE)],
            [get(path, version=b"1.0")],
            [get(path, b"X-Request-Id: %s" % (b"x" * 129), CLOSE)],
            [get(path), get(path), get(path, CLOSE)],
        ):
            await both(fast, application, 200, *requests)


async def test_entity_tags(paths: list[bytes], fast: Served, application: Served) -> None:
    for path in paths:
        found = re.search(rb"etag: (\S+)", await fast.answer(get(path, CLOSE)))
        assert found
        tag = found[1]
        for known in (tag, b"*", b'"x", %s' % tag, b"W/%s" % tag):
            await both(fast, application, 304, get(path, b"If-None-Match: %s" % known, CLOSE))
        for known in (b'"x"', b"", b"null", b"\xe9", tag.strip(b'"')):
            await both(fast, application, 200, get(path, b"If-None-Match: %s" % known, CLOSE))
        for first, second, status in ((tag, b'"x"', 304), (b'"x"', tag, 200)):
            known_two = [b"If-None-Match: " + value for value in (first, second)]
            await both(fast, application, status, get(path, *known_two, CLOSE))


async def test_rows_that_do_not_exist(
    paths: list[bytes], fast: Served, application: Served
) -> None:
    for path in (b"/users/" + UNKNOWN, b"/products/" + UNKNOWN):
        await both(fast, application, 404, get(path, CLOSE))
        await both(fast, application, 404, get(path, b"If-None-Match: *", CLOSE))
        await both(fast, application, 404, get(path), get(path, CLOSE))


async def test_without_redis(
    paths: list[bytes], fast: Served, application: Served, valkey: Valkey
) -> None:
    await valkey.stop()
    for path in paths:
        await both(fast, application, 200, get(path, CLOSE))


async def test_without_a_database(
    paths: list[bytes], fast: Served, application: Served, container: Container
) -> None:
    async with no_database(container):
        for path in (b"/users/77", b"/products/77"):
            await both(fast, application, 503, get(path, CLOSE))


async def test_a_miss_has_the_request_id_in_its_line(paths: list[bytes], fast: Served) -> None:
    async def is_missed() -> bool:
        with capture_logs(processors=[merge_contextvars]) as lines:
            await fast.answer(get(b"/users/" + UNKNOWN, CLOSE))
        misses = [line for line in lines if line["event"] == "cache miss"]
        assert {line["request_id"] for line in misses} <= {"same"}
        return bool(misses)

    await eventually(is_missed)


@pytest.mark.parametrize(
    "path",
    ["/users", "/users/0", "/users/01", "/users/+1", "/users/-1", "/users/1_0",
     "/users/9007199254740992", "/users/9007199254740993", "/users/1/", "//users/1",
     "/users/1/addresses", "/users/1?x=1", "/users/x", "/users/%D9%A1", "/orders/1",
     "/users/1%0A", "/Users/1", "/users/99999999999999999", "http://localhost/users/1"],
)  # fmt: skip
async def test_unusual_paths_are_left_to_the_application(path: str, fast: Served) -> None:
    assert (await fast.answer(get(path.encode(), CLOSE))).startswith(ELSEWHERE)


@pytest.mark.parametrize("method", [b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"POST", b"PATCH"])
async def test_other_methods_are_left_to_the_application(method: bytes, fast: Served) -> None:
    assert (await fast.answer(get(b"/users/1", CLOSE, method=method))).startswith(ELSEWHERE)


async def test_unusual_heads_are_left_to_the_application(fast: Served) -> None:
    usual = get(b"/users/1", CLOSE)
    for request in (
        get(b"/users/1", b"Content-Length: 1", CLOSE) + b"x",
        usual.replace(b"localhost", b"evil.example"),
        usual.replace(b"Host: localhost\r\n", b"Host:\r\n"),
    ):
        assert (await fast.answer(request)).startswith(ELSEWHERE), request


async def test_a_read_keeps_its_place_among_the_requests_of_its_connection(
    paths: list[bytes], fast: Served
) -> None:
    requests = [get(paths[0]), get(b"/users/" + UNKNOWN), get(b"/users"), get(paths[1], CLOSE)]
    assert statuses(await fast.answer(*requests)) == [200, 404, 418, 200]


async def test_without_the_api_key(dependencies: Dependencies) -> None:
    key = "k" * 32
    async with (
        Container.open(dependencies.settings(api_key=key)) as container,
        as_served(container) as server,
    ):
        given = f"X-API-Key: {key}".encode()
        for path in (b"/users/1", b"/users/1/"):  # the second is the application's
            for wrong in (b"X-API-Key: k", b"X-Other: k"):
                assert statuses(await server.answer(get(path, wrong, CLOSE))) == [401]
            foreign = get(path, given, CLOSE).replace(b"localhost", b"evil.example")
            assert statuses(await server.answer(foreign)) == [400]
            assert statuses(await server.answer(get(path, given, CLOSE))) == [404]


@pytest.mark.parametrize("status", [200, 404])
async def test_a_read_in_hand_when_the_server_stops_is_the_last_of_its_connection(
    status: int,
    paths: list[bytes],
    fast: Served,
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "CALL_SECONDS", 10)
    path = paths[0] if status == 200 else b"/users/" + UNKNOWN
    reader, writer = await asyncio.open_connection("127.0.0.1", fast.port)
    valkey.pause()
    writer.write(get(path))
    await eventually(partial(_has_read, fast))
    for connection in fast.state.connections:
        connection.shutdown()
    valkey.resume()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert statuses(answer) == [status]


def _has_read(server: Served) -> bool:
    connections: Any = server.state.connections
    return any(connection.cycle is not None for connection in connections)


async def test_a_client_may_leave_before_its_answer(
    paths: list[bytes], fast: Served, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CALL_SECONDS", 10)
    for path in (paths[0], b"/users/" + UNKNOWN):
        _, writer = await asyncio.open_connection("127.0.0.1", fast.port)
        valkey.pause()
        writer.write(get(path))
        await eventually(partial(_has_read, fast))
        writer.transport.abort()
        await eventually(lambda: not fast.state.connections)
        valkey.resume()
    assert statuses(await fast.answer(get(paths[0], CLOSE))) == [200]
