"""GET /users/{id} and /products/{id}, all of them in the cache."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from app.embedded.ports import free_port
from app.settings import ROOT
from benchmarks import data
from benchmarks.lab import CPU, Lab, Web, started
from benchmarks.load import Load
from benchmarks.results import Comparison, Line, RowResult, Turn, at_least, at_most, compare
from harness.waiting import eventually

OURS, FASTAPI = "this service", "FastAPI + redis-py"
BARE, CONSTANT = "bare ASGI, one GET", "bare ASGI, constant bytes"
FASTIFY = "Fastify + ioredis"
_KEYS = 1000
_FASTIFY = ROOT / "benchmarks" / "peers" / "fastify"


async def measure(lab: Lab) -> RowResult:
    remarks = [
        "All read the same 1,000 keys over 64 connections, each of which waits for its response "
        "before it sends the next request.",
    ]
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(lab.database(data.shop(products=_KEYS)))
        ours = await stack.enter_async_context(lab.web(url))
        fastapi = await stack.enter_async_context(lab.peer("fastapi_app", url))
        asgi = await stack.enter_async_context(lab.peer("asgi", url))
        turns = {
            OURS: _turn(lab, ours, "/users"),
            FASTAPI: _turn(lab, fastapi, "/users"),
            BARE: _turn(lab, asgi, "/cached"),
            CONSTANT: _turn(lab, asgi, "/constant"),
        }
        await warm(lab, ours)
        await _copy_cache(lab)
        try:
            fastify = await stack.enter_async_context(_fastify(lab))
            turns[FASTIFY] = _turn(lab, fastify, "/users")
        except (AssertionError, OSError) as error:
            remarks.append(f"**Fastify was not measured**: {error}")
        users = await compare("GET /users/{id}", turns, lab.size.rounds)
        turns = {name: _turn(lab, web, "/products") for name, web in _products(ours, fastapi)}
        products = await compare("GET /products/{id}", turns, lab.size.rounds)
    return RowResult([*_lines(users), *_lines(products)], [users, products], remarks)


def _products(ours: Web, fastapi: Web) -> list[tuple[str, Web]]:
    return [(OURS, ours), (FASTAPI, fastapi)]


def _turn(lab: Lab, web: Web, path: str) -> Turn:
    return lambda: lab.burst(Load(path + "/{n}", count=_KEYS), web)


async def warm(lab: Lab, web: Web) -> None:
    """Read until the cache holds every user and product."""
    async with Redis(port=lab.valkey.port) as redis:
        for kind in ("user", "product"):
            keys = [f"{kind}:{number}" for number in range(1, _KEYS + 1)]

            async def filled(kind: str = kind, keys: list[str] = keys) -> bool:
                await lab.burst(Load(f"/{kind}s/{{n}}", count=_KEYS), web)
                return bool(await redis.exists(*keys) == _KEYS)

            await eventually(filled, 60, lambda: "the service does not fill its cache")


async def _copy_cache(lab: Lab) -> None:
    """Copy what the service has cached to the peers' database, under the same keys."""
    async with Redis(port=lab.valkey.port) as redis:
        for kind in ("user", "product"):
            for number in range(1, _KEYS + 1):
                await redis.copy(f"{kind}:{number}", f"{kind}:{number}", destination_db="9")


@asynccontextmanager
async def _fastify(lab: Lab) -> AsyncIterator[Web]:
    """Fastify, installed into the run's own directory."""
    assert shutil.which("node") and shutil.which("npm"), "node and npm are not installed"
    directory = lab.directory / "fastify"
    shutil.copytree(_FASTIFY, directory)
    npm = await asyncio.create_subprocess_exec(
        *("npm", "install", "--no-audit", "--no-fund", "--loglevel=error"),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "npm_config_cache": str(directory / "cache")},
    )
    output, _ = await npm.communicate()
    assert npm.returncode == 0, f"npm install failed: {output.decode()[-300:]}"
    port = free_port()
    command = (Path("node"), directory / "server.js")
    async with started(lab.process("fastify", *command, PORT=str(port))) as process:
        await process.says("listening")
        yield Web((port,), (process.pid,))


def _lines(comparison: Comparison) -> list[Line]:
    what = comparison.title + ", cached: CPU per request,"
    lines = [
        Line(
            f"{what} {FASTAPI} / ours",
            comparison.ratios(CPU, FASTAPI, OURS),
            must=at_least(4.5),
            aim=at_least(5),
        )
    ]
    if BARE in comparison.results:
        values = comparison.ratios(CPU, OURS, BARE)
        lines.append(Line(f"{what} ours / {BARE}", values, must=at_most(1.1)))
        lines.append(Line(f"{what} ours / {CONSTANT}", comparison.ratios(CPU, OURS, CONSTANT)))
    if FASTIFY in comparison.results:
        values = comparison.ratios(CPU, OURS, FASTIFY)
        lines.append(Line(f"{what} ours / {FASTIFY}", values, must=at_most(2), aim=at_most(1.5)))
    return lines
