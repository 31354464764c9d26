"""Databases copied from a template that `alembic upgrade head` has migrated."""

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import make_url

from app.container import Container
from app.database import Database
from app.embedded import Postgres
from app.embedded.ports import LOOPBACK
from app.embedded.roles import APP
from app.server_addresses import PostgresAddress
from app.settings import Settings

_TEMPLATE = "migrated"
# As a bug would: the INSERT of an order with the external_id `spoilt` raises an error that is no
# refusal.
SPOILT_ORDERS_FAIL = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE division_by_zero; END $$;
CREATE TRIGGER fail BEFORE INSERT ON orders FOR EACH ROW WHEN (NEW.external_id = 'spoilt')
    EXECUTE FUNCTION fail();
"""
_WAITING_FOR_LOCKS = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND datname = current_database()
"""
_numbers = itertools.count()


def address_of(url: str) -> PostgresAddress:
    return Settings(_env_file=None, database_url=url).postgresql_address


@asynccontextmanager
async def connected(url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


async def waiting_for_locks(url: str) -> int:
    """How many sessions wait for a lock that another one holds."""
    async with connected(url) as connection:
        return int(await connection.fetchval(_WAITING_FOR_LOCKS))


async def alembic(url: str, tree: Path, *arguments: str) -> str:
    """Run alembic as README.md says, from inside `app/`, and return its output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alembic", *arguments),
        cwd=tree / "app",
        env={"DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@asynccontextmanager
async def no_database(container: Container) -> AsyncIterator[None]:
    """Point the container at a port where nothing listens."""
    address = replace(container.settings.postgresql_address, hosts=((LOOPBACK, 9),))
    nowhere = Database(address, pool_size=1)
    # All that the container has made know its Database, so its inside is exchanged.
    kept = vars(container.database).copy()
    vars(container.database).update(vars(nowhere))
    try:
        yield
    finally:
        vars(container.database).update(kept)  # the container closes its own pool at its end
        await nowhere.close()


class Databases:
    def __init__(self, server: Postgres) -> None:
        self.server = server

    def url(self, name: str) -> str:
        return f"{self.server.url.rpartition('/')[0]}/{name}"

    def admin_url(self, url: str) -> str:
        """The same database as the superuser."""
        return f"{self.server.admin_url.rpartition('/')[0]}/{make_url(url).database}"

    async def migrate_template(self, tree: Path) -> None:
        await self._execute(f"CREATE DATABASE {_TEMPLATE} OWNER {APP}")
        await alembic(self.url(_TEMPLATE), tree, "upgrade", "head")

    @asynccontextmanager
    async def fresh(self, template: str = _TEMPLATE) -> AsyncIterator[str]:
        """The URL of a database that lives as long as the context. Its owner is the service's
        role."""
        name = f"test_{next(_numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {APP}")
        try:
            yield self.url(name)
        finally:
            await self.server.start()
            # Without FORCE, so that a connection that somebody left open fails the test after 5 s.
            await self._execute(f"DROP DATABASE {name}")

    async def _execute(self, statement: str) -> None:
        async with connected(self.server.admin_url) as connection:
            await connection.execute(statement)
