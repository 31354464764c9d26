"""WEB_CONCURRENCY=2: two web processes on one port, which live and end as one service."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil
import pytest

from harness.databases import connected
from harness.dependencies import Dependencies
from harness.service import Service, one_command
from harness.waiting import eventually

USERS = 20
POST = re.compile(r'^http_requests_total{method="POST",route="/users",status="201"} (\S+)', re.M)


@pytest.fixture
def transport() -> str:
    return "streams"


@pytest.fixture
async def service(dependencies: Dependencies, tree: Path, tmp_path: Path) -> AsyncIterator[Service]:
    variables = {**dependencies.variables, "WEB_CONCURRENCY": "2"}
    async with Service(tree, tmp_path, variables) as service:
        await service.start("web")
        await eventually(lambda: len(_children(service)) == 2)
        yield service


def _children(service: Service) -> list[psutil.Process]:
    return psutil.Process(service.web.pid).children()


async def _get(service: Service, path: str, seconds: float = 30) -> httpx.Response:
    """On a connection of its own."""
    async with service.client() as client:
        return await client.get(path, timeout=seconds)


async def _users_are_created(
    client: httpx.AsyncClient, count: int
) -> list[asyncio.Task[httpx.Response]]:
    names = [f"user{os.urandom(8).hex()}" for _ in range(count)]
    bodies = [{"username": name, "email": f"{name}@example.com"} for name in names]
    return [asyncio.create_task(client.post("/users", json=body)) for body in bodies]


async def test_each_serves_while_the_other_stands_still(service: Service) -> None:
    # Both are ready, or the one that is left would have to start first.
    await eventually(lambda: all(map(_listens, _children(service))))
    for child in _children(service):
        child.suspend()
        try:
            await eventually(lambda: _answers(service))
        finally:
            child.resume()


def _listens(process: psutil.Process) -> bool:
    try:
        return any(c.status == psutil.CONN_LISTEN for c in process.net_connections("tcp"))
    except psutil.NoSuchProcess:
        return False


async def _answers(service: Service) -> bool:
    """A connection that the suspended process has accepted just before waits."""
    try:
        return (await _get(service, "/health/live", seconds=1)).status_code == 200
    except httpx.TimeoutException:
        return False


async def test_one_that_is_killed_is_replaced(service: Service) -> None:
    killed, other = _children(service)
    killed.kill()
    await eventually(lambda: _answers(service))
    await eventually(lambda: len(_children(service)) == 2 and killed not in _children(service), 30)
    assert other in _children(service)
    assert "web process ended, starting another" in service.web.output
    assert (await _get(service, "/health/ready")).status_code == 200
    assert await service.web.stop() == 0, service.web.output


async def test_metrics_add_up_and_outlive_a_process(service: Service) -> None:
    created = 0
    while created < USERS:
        async with service.client() as client:
            (response,) = await asyncio.gather(*await _users_are_created(client, 1))
            created += response.status_code == 201

    async def counted() -> float:
        found = POST.search((await _get(service, "/metrics")).text)
        return float(found[1]) if found else 0

    async def all_are_counted() -> bool:
        return await counted() == USERS

    # Whoever is asked; the last response may be counted a moment after it was sent.
    await eventually(all_are_counted)
    assert [await counted() for _ in range(6)] == [USERS] * 6
    for child in _children(service):
        child.kill()
    await eventually(lambda: _answers(service), 30)
    assert await counted() == USERS


async def test_sigterm_loses_no_request(service: Service, database_url: str) -> None:
    """The signal comes while PostgreSQL lets none of them end."""
    children = _children(service)
    async with connected(database_url) as session, service.client() as client:

        async def one_waits() -> bool:
            return bool(await session.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        async with session.transaction():
            await session.execute("LOCK TABLE users IN EXCLUSIVE MODE")
            requests = await _users_are_created(client, 16)
            await eventually(one_waits)
            os.kill(service.web.pid, signal.SIGTERM)
            await eventually(lambda: not any(map(_listens, children)))
        statuses = [response.status_code for response in await asyncio.gather(*requests)]
        # 503: the pool of one process was too small for all, or the lock came too late.
        assert set(statuses) <= {201, 503} and 201 in statuses
        assert await session.fetchval("SELECT count(*) FROM users") == statuses.count(201)
    assert await service.web.ends() == 0, service.web.output
    assert "Traceback" not in service.web.output


async def test_what_hinders_the_first_ends_all_and_is_said_once(
    dependencies: Dependencies, tree: Path, tmp_path: Path
) -> None:
    async with Service(tree, tmp_path, dependencies.variables) as service:
        wrong = {"DATABASE_URL": "mysql://x"}
        one = await service.run("main.py", variables=wrong)
        several = await service.run("main.py", variables=wrong | {"WEB_CONCURRENCY": "3"})
    assert one.code == several.code == 1
    assert several.err.splitlines()[-1] == one.err.splitlines()[-1]
    assert several.err.count(one.err.splitlines()[-1]) == 1


async def test_none_outlives_its_parent(service: Service) -> None:
    children = _children(service)
    os.kill(service.web.pid, signal.SIGKILL)
    await eventually(lambda: not any(child.is_running() for child in children), 30)


async def test_everything_in_one_process_stays_one(tree: Path, tmp_path: Path) -> None:
    async with one_command(tree, tmp_path, WEB_CONCURRENCY="2") as service:
        assert service.web.output.count("WEB_CONCURRENCY has no effect") == 1
        assert not any("--fd" in child.cmdline() for child in _children(service))
