"""Several hosts in DATABASE_URL: the one that takes writes is used, whatever the others do."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from app.database import Database
from app.embedded import Postgres
from app.embedded.ports import LOOPBACK, free_port
from app.errors import Unavailable
from harness.databases import address_of, connected
from harness.embedded import FAST, running


def _url(database_url: str, *ports: int, **options: str) -> str:
    url = make_url(database_url)
    hosts = ",".join(f"{LOOPBACK}:{port}" for port in (*ports, url.port))
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"postgres://{url.username}:{url.password}@{hosts}/{url.database}?{query}"


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Database]:
    database = Database(address_of(url), pool_size=2)
    try:
        yield database
    finally:
        await database.close()


@contextmanager
def _silent() -> Iterator[int]:
    """The port of a host that takes connections and says nothing, as one that is cut off."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        yield int(listening.getsockname()[1])


async def test_hosts_that_are_away_or_silent_are_passed_over(database_url: str) -> None:
    with _silent() as silent:
        async with _opened(_url(database_url, free_port(), silent)) as database:
            async with database.autocommit() as connection:
                assert await connection.scalar(text("SELECT 1")) == 1
            # From now on the host that answered is asked first: this takes no time.
            await database.check_login()


@pytest.fixture
async def standby(database_url: str, tmp_path: Path) -> AsyncIterator[int]:
    """The port of a server that lets the same user into the same database, and takes no writes."""
    url = make_url(database_url)
    server = Postgres(tmp_path, options=FAST)
    async with running(server):
        async with connected(server.url) as operator:
            await operator.execute(f"ALTER ROLE {url.username} PASSWORD '{url.password}'")
            await operator.execute(f"CREATE DATABASE {url.database}")
            await operator.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            await operator.execute("SELECT pg_reload_conf()")
        yield server.port


async def test_the_host_that_takes_writes_is_found(database_url: str, standby: int) -> None:
    async with _opened(_url(database_url, standby)) as database:
        await database.ping()


async def test_what_is_asked_for_is_found(database_url: str, standby: int) -> None:
    async with _opened(_url(database_url, standby, target_session_attrs="any")) as database:
        with pytest.raises(Unavailable, match="read-only"):
            await database.ping()


async def test_no_host_that_will_do(database_url: str, standby: int) -> None:
    url = _url(database_url, standby).replace(f",{LOOPBACK}:{make_url(database_url).port}", "")
    async with _opened(f"{url}target_session_attrs=read-write") as database:
        with pytest.raises(Unavailable):
            await database.ping()
