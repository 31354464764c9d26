"""Clients that are silent, slow, greedy or that a browser stands behind: over real connections."""

import asyncio
import gzip
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import psutil
import pytest

from app.embedded.ports import LOOPBACK
from app.rest.asgi import protocol
from app.settings import Settings
from harness.service import Service, one_command
from harness.tree import copy_tree, edit
from harness.waiting import eventually
from tests.faults.support.system import System

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = pytest.mark.fault

_LIVE = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
_MEGABYTE = 1 << 20


@pytest.fixture(name="port")
async def _port(system: System) -> int:
    await system.start("web")
    return system.port


@pytest.fixture(name="shared_port")
def _shared_port(service: Service) -> int:
    """One web process serves all tests that leave nothing behind in it."""
    return service.port


@pytest.fixture(name="impatient", scope="module")
async def _impatient(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """It waits 4 s for the end of a head, not 10, and 4 s for a client that does not read, not
    30."""
    tree = copy_tree(tmp_path_factory.mktemp("tree"))
    for limit in ("HEAD_SECONDS = 10", "UNREAD_SECONDS = 30"):
        edit(tree, "app/rest/asgi/protocol.py", limit, f"{limit.split()[0]} = 4")
    async with one_command(tree, tmp_path_factory.mktemp("impatient")) as running:
        yield running


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def status(self, seconds: float = 10) -> int:
        async with asyncio.timeout(seconds):
            head = await self._reader.readuntil(b"\r\n\r\n")
        length = [v for k, _, v in map(_field, head.split(b"\r\n")) if k == b"content-length"]
        await self._reader.readexactly(int(length[0]) if length else 0)
        return int(head.split()[1])

    async def is_closed(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._reader.read(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


def _field(line: bytes) -> tuple[bytes, bytes, bytes]:
    name, colon, value = line.partition(b":")
    return name.lower(), colon, value


@asynccontextmanager
async def connected(port: int, **options: Any) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(LOOPBACK, port, **options)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


def megabytes(service: Service) -> float:
    return float(psutil.Process(service.web.pid).memory_info().rss / _MEGABYTE)


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST %s HTTP/1.1" % path.encode(), b"Host: localhost", *headers]
    lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def user(name: str) -> bytes:
    return json.dumps({"username": name, "email": f"{name}@example.com"}).encode()


@pytest.mark.parametrize("endless", [b"a: b\r\n" * 10_000, b"y" * 60_000], ids=["lines", "line"])
async def test_an_endless_head_is_refused_before_it_takes_memory(
    system: System, port: int, endless: bytes
) -> None:
    before = megabytes(system)
    async with connected(port) as client:
        await client.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nx: ")
        with pytest.raises(ConnectionError):
            for _ in range(500):
                await client.send(endless)
    assert megabytes(system) - before < 10


async def test_a_head_that_does_not_end_is_cut_off(impatient: Service) -> None:
    port = impatient.port
    async with connected(port) as silent, connected(port) as slow, connected(port) as second:
        await slow.send(b"GET /health/live HTTP/1.1\r\nHost: loc")
        await second.send(_LIVE)
        assert await second.status() == 200
        await second.send(b"GET ")
        waits = (c.is_closed(protocol.HEAD_SECONDS + 3) for c in (silent, slow, second))
        assert all(await asyncio.gather(*waits))


async def test_silent_connections_do_not_take_the_last_place(system: System, port: int) -> None:
    """More than there is room for. Newcomers are served at once, and so is one that is known."""
    async with system.client() as known:
        assert (await known.get("/health/live")).status_code == 200
        silent = [socket.create_connection((LOOPBACK, port)) for _ in range(2100)]
        for _ in range(20):
            async with connected(port) as newcomer:
                began = time.monotonic()
                await newcomer.send(_LIVE)
                assert await newcomer.status() == 200
                assert time.monotonic() - began < protocol.HEAD_SECONDS / 2
        assert (await known.get("/users")).status_code == 200
        for one in silent:
            one.close()


async def test_clients_that_never_read_hold_little_memory_and_are_cut_off(
    impatient: Service,
) -> None:
    process = psutil.Process(impatient.web.pid)
    before, peak = megabytes(impatient), 0.0
    greedy = [socket.create_connection((LOOPBACK, impatient.port)) for _ in range(10)]
    requests = b"GET /schema/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
    for one in greedy:
        one.setblocking(False)

    def served() -> int:
        found = [c for c in process.net_connections() if c.status == psutil.CONN_ESTABLISHED]
        return len([c for c in found if c.laddr.port == impatient.port])

    def are_gone() -> bool:
        nonlocal peak
        for one in greedy:
            with suppress(OSError):  # it takes no more, or is cut off
                one.send(requests)
        peak = max(peak, megabytes(impatient))
        return not served()

    await eventually(lambda: served() == len(greedy))
    await eventually(are_gone)
    assert peak - before < 40
    for one in greedy:
        one.close()


@pytest.mark.parametrize("offer", [b"h2c", b"websocket", b"TLS/1.2"])
async def test_an_offered_upgrade_is_ignored(shared_port: int, offer: bytes) -> None:
    """The body arrives, and so does the next request in the same packet."""
    name = offer.decode().replace("/", "_")
    offers = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + offer]
    headers = [
        *offers,
        b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        b"Content-Type: application/json",
    ]
    async with connected(shared_port) as client:
        await client.send(post("/users", user(name), *headers) + _LIVE)
        assert [await client.status(), await client.status()] == [201, 200]


async def test_pipelined_requests_are_answered_in_their_order(shared_port: int) -> None:
    async with connected(shared_port) as client:
        missing = b"GET /users/9 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await client.send((_LIVE + missing) * 40)
        assert [await client.status() for _ in range(80)] == [200, 404] * 40


async def test_a_pipelined_target_that_is_not_ascii_is_400(shared_port: int) -> None:
    async with connected(shared_port) as client:
        await client.send(_LIVE + b"GET /users/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert [await client.status(), await client.status()] == [200, 400]


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/health/live", b"10.244.0.5:8000", 200),
        ("/health/ready", b"10.244.0.5:8000", 200),
        ("/metrics", b"10.244.0.5:8000", 200),
        ("/health/live", b"evil.example", 200),
        ("/users", b"10.244.0.5:8000", 200),
        ("/users", b"10.244.0.5.evil.example:8000", 400),
        ("/users", b"evil.example", 400),
        ("/users", b"localhost:x@evil.example", 400),
        ("/users", b"localhost@evil.example", 400),
        ("/users", b"localhost:8000", 200),
        ("/users", b"LOCALHOST", 200),
        ("/users", b"localhost\r\nHost: evil.example", 400),
    ],
)
async def test_probes_are_served_by_any_name_and_the_rest_by_ours_or_by_address(
    shared_port: int, path: str, host: bytes, status: int
) -> None:
    async with connected(shared_port) as client:
        await client.send(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path.encode(), host))
        assert await client.status() == status


async def test_a_probe_without_a_host_is_served(shared_port: int) -> None:
    async with connected(shared_port) as client:
        await client.send(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert await client.status() == 200


async def test_an_idle_connection_stays_open_as_long_as_the_setting_says(system: System) -> None:
    """75 s without the setting: longer than load balancers keep theirs. Here 8 s, longer than 5."""
    web = system.another("idle", "web", KEEP_ALIVE_SECONDS="8")
    web.start()
    await eventually(lambda: _answers(system.port), 30)
    async with connected(system.port) as client:
        await client.send(_LIVE)
        assert await client.status() == 200
        assert not await client.is_closed(6)
        assert await client.is_closed(5)


async def _answers(port: int) -> bool:
    try:
        async with connected(port) as client:
            await client.send(_LIVE)
            return await client.status() == 200
    except OSError:
        return False


def test_idle_connections_are_kept_for_longer_than_balancers_keep_them() -> None:
    assert Settings(_env_file=None).keep_alive_seconds > 60


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (gzip.compress(user("zipped"), mtime=0), [b"Content-Encoding: gzip"], 415),
        (user("labelled"), [b"Content-Encoding: gzip"], 415),
        (user("labelled"), [b"Content-Encoding: br"], 415),
        (user("plain"), [b"Content-Encoding: identity"], 201),
    ],
)
async def test_a_body_is_not_taken_in_another_encoding(
    shared_port: int, body: bytes, headers: list[bytes], status: int
) -> None:
    async with connected(shared_port) as client:
        await client.send(post("/users", body, b"Content-Type: application/json", *headers))
        assert await client.status() == status


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"gzip", b"identity"])
async def test_a_transfer_coding_that_is_not_chunked_is_not_served(
    shared_port: int, coding: bytes
) -> None:
    async with connected(shared_port) as client:
        lines = [b"POST /users HTTP/1.1", b"Host: localhost", b"Content-Type: application/json"]
        head = b"\r\n".join([*lines, b"Transfer-Encoding: " + coding])
        await client.send(head + b"\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
        assert await client.status() in (400, 501)
