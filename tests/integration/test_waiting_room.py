"""Requests that wait for their places in the protocol, without a task of their own."""

# pylint: disable=redefined-outer-name

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from litestar.types import Receive, Scope, Send
from structlog.testing import capture_logs

from app.container import Container
from app.rest.asgi import places as module
from app.rest.asgi.context import RequestContext
from app.rest.asgi.gatekeeper import Gatekeeper
from app.rest.asgi.limiter import Limiter
from app.rest.asgi.places import Place, Places, VegasLimit
from app.rest.asgi.protocol import Protocol
from harness.served import Served, direct, served
from harness.waiting import eventually

BODY = b'{"a":1}'
PATIENCE = 60.0


def post(*headers: bytes, body: bytes = BODY, path: bytes = b"/users") -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: localhost", b"X-Request-Id: same"]
    lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


CLOSE = b"Connection: close"
GIVER = ContextVar("GIVER", default="nobody")


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = b""
    while True:
        message: Any = await receive()
        body += message["body"]
        if not message["more_body"]:
            break
    headers = [(b"content-length", b"%d" % len(body)), (b"giver", GIVER.get().encode())]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class Door:
    """The protocol with everything behind it but Litestar, and one place."""

    def __init__(self, server: Served, places: Places) -> None:
        self.server = server
        self.places = places

    @contextmanager
    def full(self) -> Iterator[Place]:
        place = self.take()
        try:
            yield place
        finally:
            place.release()

    def take(self) -> Place:
        assert self.places.has_room
        coroutine = self.places.take()
        try:
            coroutine.send(None)
        except StopIteration as stopped:
            place: Place = stopped.value
            return place
        raise AssertionError("it had to wait")

    async def waits(self) -> None:
        """Returns when a request waits for its place."""
        await eventually(lambda: any(_waits(c) for c in self.server.state.connections))
        assert not self.server.state.tasks


def _waits(connection: Any) -> bool:
    return connection.cycle is not None and not connection.cycle.response_complete


@pytest.fixture
async def door(container: Container, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", PATIENCE)
    places = Places(VegasLimit(1))
    app = RequestContext(Gatekeeper(Limiter(_echo, places), container.settings), container.settings)
    async with served(app, direct(container, places)) as server:
        yield Door(server, places)


def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is refused at once."""
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(module, "PATIENCE_IN_A_CROWD_SECONDS", 0.0)


async def test_a_request_that_waits_is_served_in_its_turn(door: Door) -> None:
    with door.full():
        answering = asyncio.create_task(door.server.answer(post(CLOSE)))
        await door.waits()
    answer = await answering
    assert answer.startswith(b"HTTP/1.1 201") and answer.endswith(BODY)
    assert door.places.has_room


async def test_its_time_counts_from_its_arrival(door: Door) -> None:
    with capture_logs() as lines:
        with door.full():
            answering = asyncio.create_task(door.server.answer(post(CLOSE)))
            await door.waits()
            await asyncio.sleep(0.05)
        await answering
    (line,) = [line for line in lines if line["event"] == "request"]
    assert line["milliseconds"] >= 50


@pytest.mark.parametrize("method", [b"POST", b"GET"])
async def test_a_refusal_is_that_of_the_application(
    method: bytes, door: Door, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = RequestContext(
        Gatekeeper(Limiter(_echo, door.places), container.settings), container.settings
    )
    _hurry(monkeypatch)
    request = post(CLOSE).replace(b"POST", method)
    if method == b"GET":
        request = b"GET /users?page=2 HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: same\r\n"
        request += b"Connection: close\r\n\r\n"
    async with served(app, Protocol) as application:
        with door.full():
            ours, theirs = [await _refusal(s, request) for s in (door.server, application)]
    assert ours == theirs
    answer, lines = ours
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in head
    assert json.loads(body)["request_id"] == "same"
    assert [(line["status"], line["log_level"]) for line in lines] == [(503, "debug")]


async def _refusal(server: Served, request: bytes) -> tuple[bytes, list[Any]]:
    with capture_logs() as captured:
        answer = await server.answer(request)
    lines: list[Any] = [line for line in captured if line["event"] == "request"]
    for line in lines:
        del line["milliseconds"]
    return answer, lines


async def test_a_connection_goes_on_after_a_refusal(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    _hurry(monkeypatch)
    with door.full():
        answer = await door.server.answer(post(), post(CLOSE))
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"503", b"503"]


async def test_requests_of_one_connection_keep_their_order(door: Door) -> None:
    with door.full():
        requests = [post(body=b"1"), post(body=b"22"), post(CLOSE, body=b"333")]
        answering = asyncio.create_task(door.server.answer(*requests))
        await door.waits()
    assert re.findall(rb"\r\n\r\n(\d+)", await answering) == [b"1", b"22", b"333"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n" % CLOSE, 201),
        (post(CLOSE).replace(b"localhost", b"evil.example"), 400),
        (post(CLOSE).replace(b"application/json", b"text/plain"), 415),
        (post(CLOSE, b"Origin: https://evil.example"), 403),
        (post(CLOSE, path=b"/users/\xc3\xa9"), 400),
        (post(CLOSE, path=b"/%6Cogin"), 415),  # /login, which takes a form
    ],
)
async def test_what_needs_no_place_does_not_wait(
    request_bytes: bytes, status: int, door: Door
) -> None:
    with door.full():
        assert (await door.server.answer(request_bytes)).startswith(b"HTTP/1.1 %d" % status)


@pytest.mark.parametrize("headers", [(), (b"Expect: 100-continue",)])
async def test_a_body_that_is_on_its_way_is_awaited_by_the_application(
    headers: tuple[bytes, ...], door: Door
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.server.port)
    request = post(CLOSE, *headers)
    with door.full():
        writer.write(request[:-3])
        await eventually(lambda: door.server.state.tasks)
        writer.write(request[-3:])
    assert (await reader.read()).endswith(BODY)
    writer.close()
    await writer.wait_closed()
    await eventually(lambda: door.places.has_room)


async def test_it_knows_nothing_of_the_request_that_gave_it_its_place(door: Door) -> None:
    with door.full() as place:
        answering = asyncio.create_task(door.server.answer(post(CLOSE)))
        await door.waits()
        before = GIVER.set("another")
        place.release()
        GIVER.reset(before)
    assert b"giver: nobody" in await answering


async def test_a_client_that_leaves_gives_up_its_turn(door: Door) -> None:
    with door.full():
        _, writer = await asyncio.open_connection("127.0.0.1", door.server.port)
        writer.write(post())
        await door.waits()
        writer.transport.abort()
        await eventually(lambda: not door.server.state.connections)
    assert door.places.has_room


async def test_a_client_that_leaves_when_its_turn_has_come_keeps_no_place(door: Door) -> None:
    with door.full() as place:
        _, writer = await asyncio.open_connection("127.0.0.1", door.server.port)
        writer.write(post())
        await door.waits()
        (connection,) = door.server.state.connections
        place.release()
        connection.connection_lost(ConnectionResetError())  # before it knows of its place
        writer.transport.abort()
    await eventually(lambda: door.places.has_room)


async def test_a_request_that_waits_when_the_server_stops_is_the_last(door: Door) -> None:
    with door.full():
        answering = asyncio.create_task(door.server.answer(post()))
        await door.waits()
        for connection in door.server.state.connections:
            connection.shutdown()
    assert (await answering).endswith(BODY)  # and the connection has ended
