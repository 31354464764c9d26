"""More clients than can be served: 1,500 connections that write, beside 8."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from app.embedded.ports import LOOPBACK
from app.rest.asgi.places import VegasLimit
from benchmarks import data
from benchmarks.lab import CPU, POSTGRES_CPU, Lab, Web
from benchmarks.load import Load, Responses, generate
from benchmarks.results import (
    Comparison,
    Figures,
    Line,
    RowResult,
    Turn,
    at_least,
    at_most,
    compare,
)
from benchmarks.rows.cached_reads import warm
from benchmarks.usage import Meter
from harness.databases import connected

FEW, MANY, REFUSED = "8 connections", "1,500 connections", "1,500, all refused"
PEER_FEW, PEER_MANY = (f"FastAPI + SQLAlchemy, {connections}" for connections in (FEW, MANY))
ALONE, BESIDE = "cached reads alone", "cached reads beside 512 writers"
RATE, P99, LIVE, ERRORS = "successes/s", "p99 of them, ms", "/health/live, worst ms", "refused/s"
_FEW, _MANY, _WRITERS, _READERS, _KEYS = 8, 1500, 512, 64, 1000
_PROBE_PAUSE = 0.02
# A flood begins with all requests in one turn of the event loop; what counts is how it goes on.
_LONGER = 2.5
_USER = '{"username": "new{n}", "email": "new{n}@example.com", "description": "Designer"}'
_ORDER = '{"user_id": 1, "delivery_address_id": 1, "items": [{"product_id": {n}, "quantity": 1}]}'
_FIRST_NUMBERS = itertools.count(1_000_000, 1_000_000)


async def measure(lab: Lab) -> RowResult:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        fill = data.shop(products=_KEYS)
        url, peer_url = await enter(lab.database(fill)), await enter(lab.database(fill))
        ours, peer = await enter(lab.web(url)), await enter(lab.peer("fastapi_app", peer_url))
        created = await compare("POST /users", _creation(lab, ours, url, peer), lab.size.rounds)
        orders = {
            FEW: lambda: _take(lab, ours, _orders(_FEW)),
            MANY: lambda: _take(lab, ours, _orders(_MANY)),
        }
        placed = await compare("POST /orders", orders, lab.size.rounds)
        await warm(lab, ours)
        reads = {ALONE: lambda: _read(lab, ours), BESIDE: lambda: _beside(lab, ours)}
        read = await compare("GET /users/{id}", reads, lab.size.rounds)
    remarks = [
        "Each connection sends its next request as soon as it has a response, also after a 503: no "
        "client heeds Retry-After. The load generator shares the machine with the service.",
        "*All refused*: another session keeps users from being written, so nearly every request is "
        "refused. What a refusal costs is the CPU time of the process, from when all are connected "
        f"to the last response, less what it uses when {VegasLimit.LEAST} clients ask, who have "
        "places and wait for the lock, divided by their number.",
        f"/health/live is asked again and again, {_PROBE_PAUSE * 1000:.0f} ms after its response, "
        "on a new connection, from before the clients connect until they are done.",
    ]
    lines = [*_lines(created), *_lines(placed), *_costs(created), _reading(read)]
    return RowResult(lines, [created, placed, read], remarks)


def _creation(lab: Lab, ours: Web, url: str, peer: Web) -> dict[str, Turn]:
    return {
        FEW: lambda: _take(lab, ours, _users(_FEW)),
        MANY: lambda: _take(lab, ours, _users(_MANY)),
        REFUSED: lambda: _refused(lab, ours, url),
        PEER_FEW: lambda: _take(lab, peer, _users(_FEW)),
        PEER_MANY: lambda: _take(lab, peer, _users(_MANY)),
    }


def _users(connections: int) -> Load:
    first = next(_FIRST_NUMBERS)
    return Load("/users", "POST", _USER, first, 1_000_000, connections, is_flood=True)


def _orders(connections: int) -> Load:
    return Load("/orders", "POST", _ORDER, 1, _KEYS, connections, is_flood=True)


async def _take(lab: Lab, web: Web, load: Load) -> Figures:
    servers, postgres = Meter(*web.pids), Meter(lab.postgres.pid)
    async with _probed(web) as waits:
        responses = await generate(load, web.ports, _LONGER * lab.size.seconds)
    costs = {
        CPU: servers.seconds / responses.total * 1e6,
        POSTGRES_CPU: postgres.seconds / responses.total * 1e6,
    }
    return {**_rates(responses), LIVE: max(waits) * 1000, **costs}


def _rates(responses: Responses) -> Figures:
    return {
        RATE: responses.goodput,
        ERRORS: (responses.total - responses.successes) / responses.seconds,
        P99: responses.p99 * 1000,
    }


async def _refused(lab: Lab, web: Web, url: str) -> Figures:
    """What nothing but refusals costs, without what those cost that have a place and fail."""
    async with connected(url) as other, other.transaction():
        await other.execute("LOCK TABLE users IN EXCLUSIVE MODE")
        without, _ = await _metered(lab, web, _users(VegasLimit.LEAST))
        seconds, responses = await _metered(lab, web, _users(_MANY))
    cost = (seconds - without) * responses.seconds / responses.total
    return {**_rates(responses), CPU: cost * 1e6}


async def _metered(lab: Lab, web: Web, load: Load) -> tuple[float, Responses]:
    """The CPU seconds of a second."""
    responses = await generate(load, web.ports, _LONGER * lab.size.seconds, web.pids)
    return responses.cpu / responses.seconds, responses


async def _read(lab: Lab, web: Web) -> Figures:
    load = Load("/users/{n}", count=_KEYS, connections=_READERS)
    return _rates(await generate(load, web.ports, lab.size.seconds))


async def _beside(lab: Lab, web: Web) -> Figures:
    writing = asyncio.create_task(generate(_users(_WRITERS), web.ports, 2 * lab.size.seconds + 2))
    await asyncio.sleep(2)  # until all have connected
    figures = await _read(lab, web)
    await writing
    return figures


@asynccontextmanager
async def _probed(web: Web) -> AsyncIterator[list[float]]:
    waits: list[float] = []

    async def probe() -> None:
        while True:
            waits.append(await newcomer(web.ports[0], "/health/live"))
            await asyncio.sleep(_PROBE_PAUSE)

    probing = asyncio.create_task(probe())
    try:
        yield waits
    finally:
        probing.cancel()
        await asyncio.wait([probing])
        waits.append(0.0)


async def newcomer(port: int, path: str) -> float:
    """The seconds from a new connection to the end of its response."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
    await reader.read()
    writer.close()
    return time.perf_counter() - began


def _lines(comparison: Comparison) -> list[Line]:
    what = comparison.title
    values = comparison.ratios(RATE, MANY, FEW)
    p99 = comparison.values(MANY, P99)
    return [
        Line(f"{what}: 201/s, {MANY} / {FEW}", values, must=at_least(0.85), aim=at_least(0.95)),
        Line(
            f"{what}: p99 of the 201s, {MANY}", p99, must=at_most(500), aim=at_most(250), unit="ms"
        ),
    ]


def _costs(created: Comparison) -> list[Line]:
    costs = created.ratios(CPU, REFUSED, FEW)
    live = created.values(MANY, LIVE)
    peer = created.ratios(RATE, PEER_MANY, PEER_FEW)
    return [
        Line("CPU of a refusal / of a 201 of POST /users", costs, at_most(0.15), at_most(0.08)),
        Line("GET /health/live during it, worst", live, at_most(250), at_most(100), unit="ms"),
        Line(f"POST /users: 201/s, {PEER_MANY} / 8", peer),
    ]


def _reading(read: Comparison) -> Line:
    values = read.ratios(P99, BESIDE, ALONE)
    what = f"Cached reads, {_READERS} connections: p99, beside {_WRITERS} writers / alone"
    return Line(what, values, must=at_most(5), aim=at_most(2))
