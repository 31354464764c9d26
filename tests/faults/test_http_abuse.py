"""Nothing that a client sends causes a 5xx, leaks anything, or delays other clients."""

import asyncio
import json
import re
import time
from typing import NamedTuple

import httpx
import pytest

from app.embedded.ports import LOOPBACK
from app.rest.asgi.protocol import HEAD_SECONDS
from harness.waiting import eventually
from tests.faults.support.hostile_bodies import HOSTILE_BODIES
from tests.faults.support.hostile_targets import HOSTILE_TARGETS
from tests.faults.support.requests import Hostile
from tests.faults.support.system import System

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = pytest.mark.fault

_SECRETS = re.compile(rb"Traceback|asyncpg|sqlalchemy|SELECT |/app/|site-packages|password", re.I)
# Who had to wait for the slow ones would wait for twice as long.
_NORMAL_SECONDS = HEAD_SECONDS / 2


class Response(NamedTuple):
    status: int
    head: bytes
    body: bytes


async def _ask(port: int, raw: bytes, seconds: float = 10) -> Response:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        async with asyncio.timeout(seconds):
            writer.write(raw)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            body = await reader.readexactly(int(length[1])) if length else b""
    finally:
        writer.transport.abort()
    return Response(int(head.split()[1]), head.lower(), body)


def _complaints(response: Response, hostile: Hostile) -> list[str]:
    found = []
    if response.status not in hostile.statuses:
        found.append(f"{response.status} instead of {hostile.statuses}: {response.body[:200]!r}")
    if response.status >= 400 and not _is_problem(response):
        found.append(f"no problem document: {response.head!r}")
    if _SECRETS.search(response.body) and response.status >= 400:
        found.append(f"it leaks: {response.body[:500]!r}")
    if b"x-injected" in response.head:
        found.append(f"a header injected by the client: {response.head!r}")
    return found


def _is_problem(response: Response) -> bool:
    """Also true for the parser's own response to bytes that are not HTTP."""
    of_parser = response.status == 400 and response.body == b"Invalid HTTP request received."
    return of_parser or b"content-type: application/problem+json" in response.head


async def test_hostile_requests(system: System) -> None:
    async with system.shop() as shop, system.client() as client:
        product_id = await shop.product()
        await system.start("web")
        complaints: dict[str, list[str]] = {}
        for name, hostile in (HOSTILE_TARGETS | HOSTILE_BODIES).items():
            try:
                found = _complaints(await _ask(system.port, hostile.raw), hostile)
            except (OSError, EOFError) as error:
                found = [repr(error)]
            if found:
                complaints[name[:80]] = found
        assert not complaints, "\n".join(f"{name}: {found}" for name, found in complaints.items())
        assert (await client.get(f"/users/{shop.user_id}")).status_code == 200
        response = await client.post("/orders", json=shop.order_body((product_id, 1)))
        assert response.status_code == 201
        for line in system.web.log.read_text().splitlines():
            json.loads(line)  # one object per line, whatever the clients have sent
        assert not system.errors(), system.errors()


async def test_unfinished_requests_do_not_keep_others_waiting(system: System) -> None:
    """A hundred and fifty clients send part of a head, part of a body, or nothing."""
    heads = b"GET /users HTTP/1.1\r\nhost: localhost\r\nx-slow: "
    body = (
        b"POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b'content-length: 100\r\n\r\n{"username": '
    )
    async with system.shop() as shop, system.client() as client:
        await system.start("web")
        streams = [await asyncio.open_connection(LOOPBACK, system.port) for _ in range(150)]
        for number, (_, writer) in enumerate(streams):
            writer.write((heads, body, b"")[number % 3])
        await asyncio.sleep(1)
        for _ in range(5):
            began = time.monotonic()
            assert (await client.get(f"/users/{shop.user_id}")).status_code == 200
            assert time.monotonic() - began < _NORMAL_SECONDS
        for _, writer in streams:
            writer.transport.abort()
        assert (await client.get("/orders")).status_code == 200
        assert not system.errors(), system.errors()


@pytest.mark.long
async def test_a_body_that_comes_byte_by_byte_is_cut_off(system: System) -> None:
    head = b"POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    await system.start("web")
    reader, writer = await asyncio.open_connection(LOOPBACK, system.port)
    writer.write(head + b"content-length: 100\r\n\r\n")

    async def drip() -> None:
        while True:
            writer.write(b" ")
            await asyncio.sleep(0.5)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(15):
        response = await reader.readuntil(b"\r\n\r\n")
    dripping.cancel()
    writer.transport.abort()
    assert b" 408 " in response.splitlines()[0]


async def test_clients_that_leave_before_the_response(system: System) -> None:
    """Each client has sent a complete order. The pool must get every connection back."""
    async with system.shop() as shop, system.client() as client:
        product_id = await shop.product(stock=1000)
        await system.start("web")
        request = client.build_request("POST", "/orders", json=shop.order_body((product_id, 1)))
        lines = [b"POST /orders HTTP/1.1", b"host: localhost", b"content-type: application/json"]
        raw = b"\r\n".join([*lines, b"content-length: %d" % len(request.content)])
        for _ in range(200):
            _, writer = await asyncio.open_connection(LOOPBACK, system.port)
            writer.write(raw + b"\r\n\r\n" + request.content)
            await writer.drain()
            writer.transport.abort()

        async def all_are_served() -> list[httpx.Response]:
            # On a busy machine the abandoned orders still use the pool for a moment: 503 until then.
            responses = await asyncio.gather(*(client.get("/orders") for _ in range(20)))
            assert {response.status_code for response in responses} <= {200, 503}
            return responses if {response.status_code for response in responses} == {200} else []

        responses = await eventually(all_are_served)
        placed = responses[-1].json()["total"]
        assert await shop.stock(product_id) >= 1000 - 200
        assert placed <= 200
        assert not system.errors(), system.errors()
