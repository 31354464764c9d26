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
POSTS = r'http_requests_total{method="POST",route="/users",status="201"}'


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
    await eventually(lambda: _both_listen(service))
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


async def test_each_counts_for_all_also_for_those_that_have_died(service: Service) -> None:
    await eventually(lambda: _both_listen(service))
    alone = await _by_each(service, "http_places")
    assert alone[0] == alone[1] > 0 and alone[0] % 2 == 0
    for child in _children(service):  # half of them each
        child.suspend()
        try:
            await eventually(lambda: _answers(service))
            await _create_users(service, USERS // 2)
        finally:
            child.resume()
    # The last response may be counted a moment after it was sent.
    await eventually(lambda: _counts(service, POSTS, USERS))
    assert await _by_each(service, POSTS) == [USERS, USERS]
    files = sorted(_metrics(service).iterdir())
    for child in _children(service):
        child.kill()
        child.wait()
        await eventually(lambda: _both_listen(service), 30)
    assert await _by_each(service, POSTS) == [USERS, USERS]
    assert await _by_each(service, "http_places") == alone
    assert sorted(_metrics(service).iterdir()) == files
    await _create_users(service, 1)
    await eventually(lambda: _counts(service, POSTS, USERS + 1))


async def _create_users(service: Service, count: int) -> None:
    """Each on a connection of its own."""
    while count:
        async with service.client() as client:
            (response,) = await asyncio.gather(*await _users_are_created(client, 1))
            count -= response.status_code == 201


async def _counts(service: Service, metric: str, expected: float) -> bool:
    return await _metric(service, metric) == expected


async def _metric(service: Service, name: str) -> float:
    text = (await _get(service, "/metrics", seconds=1)).text
    found = re.search(rf"^{name} (\S+)$", text, re.M)
    return float(found[1]) if found else 0


async def _by_each(service: Service, metric: str) -> list[float]:
    """What one process says of it while the other stands still."""
    said = []
    for child in _children(service):
        child.suspend()
        try:
            await eventually(lambda: _answers(service), 30)
            said.append(await _metric(service, metric))
        finally:
            child.resume()
    return said


def _both_listen(service: Service) -> bool:
    children = _children(service)
    return len(children) == 2 and all(map(_listens, children))


def _metrics(service: Service) -> Path:
    return Path(_children(service)[0].environ()["PROMETHEUS_MULTIPROC_DIR"])


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
    children, metrics = _children(service), _metrics(service)
    os.kill(service.web.pid, signal.SIGKILL)
    await eventually(lambda: not any(child.is_running() for child in children), 30)
    assert not metrics.exists()


async def test_everything_in_one_process_stays_one(tree: Path, tmp_path: Path) -> None:
    async with one_command(tree, tmp_path, WEB_CONCURRENCY="2") as service:
        assert service.web.output.count("WEB_CONCURRENCY has no effect") == 1
        assert not any("--fd" in child.cmdline() for child in _children(service))
