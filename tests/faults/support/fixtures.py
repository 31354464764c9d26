"""A pytest plugin: test modules name it in `pytest_plugins`."""

# pylint: disable=redefined-outer-name

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.embedded import Postgres, Valkey
from harness.databases import Databases
from harness.dependencies import Dependencies
from tests.faults.invariants import check_database
from tests.faults.support.system import System

# The machine stays up, so the page cache may stand for the disk. A commit must be in it, though.
_OPTIONS = {"fsync": "off", "log_error_verbosity": "verbose", "shared_buffers": "32MB"}


@pytest.fixture(scope="session")
async def hardy_postgres() -> AsyncIterator[Postgres]:
    """A PostgreSQL that loses no commit when it is killed. The one of the other tests may, and is
    faster."""
    with tempfile.TemporaryDirectory(prefix="order-service-") as directory:
        server = Postgres(Path(directory), options=_OPTIONS)
        await server.start()
        yield server
        server.resume()
        await server.stop()


@pytest.fixture(scope="session")
async def hardy_databases(hardy_postgres: Postgres, tree: Path) -> Databases:
    databases = Databases(hardy_postgres)
    await databases.migrate_template(tree)
    return databases


@pytest.fixture
async def hardy_url(hardy_databases: Databases) -> AsyncIterator[str]:
    async with hardy_databases.fresh() as url:
        yield url


@pytest.fixture
def hardy_dependencies(
    transport: str, hardy_url: str, valkey: Valkey, request: pytest.FixtureRequest
) -> Dependencies:
    rabbitmq = request.getfixturevalue("rabbitmq") if transport == "rabbitmq" else None
    return Dependencies(hardy_url, valkey, rabbitmq)


@pytest.fixture
async def system(
    hardy_dependencies: Dependencies, hardy_postgres: Postgres, tree: Path, tmp_path: Path
) -> AsyncIterator[System]:
    """Nothing of it runs yet. After every test the invariants are checked."""
    log = hardy_postgres.directory / "postgres.log"
    log_begins = log.stat().st_size
    system = System(hardy_dependencies, hardy_postgres, tree, tmp_path)
    try:
        yield system
    finally:
        hardy_postgres.resume()
        await hardy_postgres.start()
        await system.close()
    said = log.read_bytes()[log_begins:].decode(errors="replace")
    await check_database(system.database_url, said)
