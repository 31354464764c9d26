"""Four containers migrate at once and one of them is killed in the middle."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.settings import ROOT
from harness.databases import Databases, alembic, connected
from harness.processes import Process, finish
from harness.waiting import eventually

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = pytest.mark.fault

_HOLDER = """
    SELECT a.client_port FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()
"""


@pytest.fixture(name="empty_url")
async def _empty_url(durable_databases: Databases) -> AsyncIterator[str]:
    async with durable_databases.fresh(template="template1") as url:
        yield url


def _migration(number: int, url: str, tree: Path, directory: Path) -> Process:
    return Process(
        f"alembic-{number}",
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        {"DATABASE_URL": url},
        directory=tree / "app",
        log=directory / f"alembic-{number}.log",
    )


async def test_one_of_four_is_killed_in_the_middle(
    empty_url: str, tree: Path, tmp_path: Path
) -> None:
    migrations = [_migration(number, empty_url, tree, tmp_path) for number in range(4)]
    async with connected(empty_url) as connection:
        try:
            killed = await _kill_the_first(connection, empty_url, migrations)
            others = [migration for migration in migrations if migration is not killed]
            assert [await migration.ends(60) for migration in others] == [0, 0, 0]
        finally:
            await finish(migrations)
        await _check_migrated(connection)
        await alembic(empty_url, tree, "upgrade", "head")
        await _check_migrated(connection)


async def _kill_the_first(connection: Any, url: str, migrations: list[Process]) -> Process:
    """The first migration waits in the middle of its work for a table name that is in use. The
    others wait for the first one's lock."""
    async with connected(url) as watcher, connection.transaction():
        await connection.execute("CREATE TABLE users ()")
        for migration in migrations:
            migration.start()
        port = await eventually(lambda: watcher.fetchval(_HOLDER), 30)
        [first] = [migration for migration in migrations if port in _ports(migration)]
        await asyncio.sleep(0.5)
        first.kill()
        await connection.execute("DROP TABLE users")
    return first


def _ports(process: Process) -> set[int]:
    connections = psutil.Process(process.pid).net_connections("tcp")
    return {connection.laddr.port for connection in connections}


async def _check_migrated(connection: Any) -> None:
    newest = ScriptDirectory.from_config(Config(ROOT / "app/alembic.ini")).get_current_head()
    versions = await connection.fetch("SELECT version_num FROM alembic_version")
    assert [row[0] for row in versions] == [newest]
    assert await connection.fetchval("SELECT count(*) FROM installation") == 1
