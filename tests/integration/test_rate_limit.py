"""RATE_LIMIT: every way into the service counts, and each client for itself."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app import web
from app.container import Container
from app.rest.asgi.places import Places, VegasLimit
from app.rest.asgi.rate_limit import RateLimit
from app.settings import Rate, Settings
from harness.lifespan import lifespan
from harness.served import Served, direct, served

KEY = b"k" * 32
UNKNOWN = b"/users/9007199254740991"


class Clock:
    """Time passes when a test says so."""

    time = 1.0

    def __call__(self) -> float:
        return self.time


@asynccontextmanager
async def _service(
    settings: Settings,
    rate: Rate,
    clock: Clock,
    places: Places | None = None,
    **variables: Any,
) -> AsyncIterator[Served]:
    variables = {"rate_limit": "1/s", "trusted_proxies": "127.0.0.1", **variables}
    changed = Settings(**{**settings.model_dump(), **variables})
    places, limit = places or web.new_places(), RateLimit(rate, clock)
    async with Container.open(changed) as container:
        app = web.create_app(container, places, limit)
        async with lifespan(app), served(app, direct(container, places, limit)) as server:
            yield server


def _get(path: bytes, client: bytes, *headers: bytes) -> bytes:
    lines = [b"GET %s HTTP/1.1" % path, b"Host: localhost", b"X-Forwarded-For: " + client]
    return b"\r\n".join([*lines, b"Connection: close", *headers, b"", b""])


def _has_request(connection: Any) -> bool:
    return connection.cycle is not None


async def _status(server: Served, path: bytes, client: bytes, *headers: bytes) -> int:
    return int((await server.answer(_get(path, client, *headers)))[9:12])


async def test_both_doors_count_for_one_client(settings: Settings) -> None:
    clock = Clock()
    async with _service(settings, Rate(4, 60), clock) as server:
        for client in (b"192.0.2.1", b"192.0.2.2", b"2001:db8::1"):
            found = [
                await _status(server, path, client)
                for path in (UNKNOWN, b"/users", UNKNOWN, b"/nothing", UNKNOWN, b"/users", b"/x")
            ]
            assert found == [404, 200, 404, 404, 429, 429, 429]
            assert await _status(server, b"/health/live", client) == 200
            assert await _status(server, b"/metrics", client) == 200
        # The network, not the address.
        assert await _status(server, UNKNOWN, b"2001:db8::ffff:2") == 429
        assert await _status(server, UNKNOWN, b"2001:db8:0:1::1") == 404
        clock.time += 15
        assert await _status(server, UNKNOWN, b"192.0.2.1") == 404
        assert await _status(server, b"/users", b"192.0.2.1") == 429


async def test_what_a_client_is_told(settings: Settings) -> None:
    async with _service(settings, Rate(2, 60), Clock(), cors_origins="*") as server:
        for path in (UNKNOWN, b"/users"):
            answers = [await server.answer(_get(path, b"192.0.2.1%d" % len(path))) for _ in "123"]
            states = [re.findall(rb'ratelimit: "default";r=(\d+);t=(\d+)\r', a) for a in answers]
            assert states == [[(b"1", b"30")], [(b"0", b"60")], [(b"0", b"60")]]
            assert all(a.count(b'ratelimit-policy: "default";q=2;w=60\r') == 1 for a in answers)
            head, _, body = answers[-1].partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 429") and b"retry-after: 30" in head
            assert b"application/problem+json" in head and b"allow-origin: *" in head
            problem = json.loads(body)
            assert problem["status"] == 429 and problem["request_id"].encode() in head
        document = json.loads(
            (await server.answer(_get(b"/schema/openapi.json", b""))).split(b"\r\n\r\n")[1]
        )
    operation = document["paths"]["/users/{user_id}"]["get"]["responses"]
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(operation["429"]["headers"])
    assert "RateLimit" in operation["200"]["headers"]
    assert "429" not in document["paths"]["/health/live"]["get"]["responses"]


async def test_the_key_is_one_client_and_a_guess_is_none(settings: Settings) -> None:
    async with _service(settings, Rate(2, 60), Clock(), api_key=KEY.decode()) as server:
        key = b"X-API-Key: " + KEY
        for path, client, status in (
            (UNKNOWN, b"192.0.2.1", 404),
            (b"/users", b"192.0.2.2", 200),
            (UNKNOWN, b"192.0.2.3", 429),
        ):
            assert await _status(server, path, client, key) == status
        guesses = [b"X-API-Key: %032d" % number for number in range(3)]
        found = [await _status(server, UNKNOWN, b"192.0.2.1", guess) for guess in guesses]
        assert found == [401, 401, 429]


async def test_a_flood_is_one_line_and_is_counted(settings: Settings) -> None:
    labels = {"method": "GET", "route": "unmatched", "status": "429"}
    counted = REGISTRY.get_sample_value("http_requests_total", labels) or 0
    async with _service(settings, Rate(1, 3600), Clock()) as server:
        with capture_logs() as lines:
            for _ in range(30):
                await _status(server, UNKNOWN, b"192.0.2.1")
    told = [line for line in lines if "RATE_LIMIT" in line["event"]]
    assert told[0]["client"] == "192.0.2.1"
    assert len(told) <= 3  # seconds may pass
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["log_level"] for line in requests] == ["info"] + ["debug"] * 29
    assert REGISTRY.get_sample_value("http_requests_total", labels) == counted + 29


async def test_a_request_that_waits_is_counted_once_and_one_too_many_does_not_wait(
    settings: Settings,
) -> None:
    places = Places(VegasLimit(1))
    async with _service(settings, Rate(2, 60), Clock(), places) as server:
        taken = []
        while places.has_room:
            taken.append(await places.take())
        request = _get(b"/users", b"192.0.2.1")
        waiting = [asyncio.create_task(server.answer(request)) for _ in range(2)]
        while sum(map(_has_request, server.state.connections)) < 2:
            await asyncio.sleep(0.01)
        assert (await server.answer(request)).startswith(b"HTTP/1.1 429")
        for place in taken:
            assert place
            place.release()
        answers = [await task for task in waiting]
    assert [answer[9:12] for answer in answers] == [b"200", b"200"]
    assert all(answer.count(b"ratelimit: ") == 1 for answer in answers)
