"""A pytest plugin: test modules name it in `pytest_plugins` instead of importing it."""

# pylint: disable=redefined-outer-name

import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.embedded import Postgres, Valkey
from harness.databases import Databases
from harness.dependencies import Dependencies
from tests.faults.invariants import check_database
from tests.faults.support.system import System

_CURE = "mounting a tmpfs was refused: run the tests as root with CAP_SYS_ADMIN, or set {}=1"
_SWITCH = "FAULTS_WITHOUT_MOUNT"
# The machine stays up, so the kernel's page cache survives every kill: no fsync is needed. Commits
# stay synchronous, though, because an acknowledged one must not be lost.
_OPTIONS = {"fsync": "off", "log_error_verbosity": "verbose", "shared_buffers": "32MB"}


@pytest.fixture(scope="session")
async def durable_postgres() -> AsyncIterator[Postgres]:
    """A server that loses no commit when it is killed. The one for all other tests may, and is
    faster."""
    with tempfile.TemporaryDirectory(prefix="order-service-") as directory:
        server = Postgres(Path(directory), options=_OPTIONS)
        await server.start()
        yield server
        server.resume()
        await server.stop()


@pytest.fixture(scope="session")
async def durable_databases(durable_postgres: Postgres, tree: Path) -> Databases:
    databases = Databases(durable_postgres)
    await databases.migrate_template(tree)
    return databases


@pytest.fixture
async def durable_url(durable_databases: Databases) -> AsyncIterator[str]:
    async with durable_databases.fresh() as url:
        yield url


@pytest.fixture
def durable_dependencies(
    transport: str, durable_url: str, valkey: Valkey, request: pytest.FixtureRequest
) -> Dependencies:
    rabbitmq = request.getfixturevalue("rabbitmq") if transport == "rabbitmq" else None
    return Dependencies(durable_url, valkey, rabbitmq)


@pytest.fixture
async def system(
    durable_dependencies: Dependencies, durable_postgres: Postgres, tree: Path, tmp_path: Path
) -> AsyncIterator[System]:
    """The service's processes, none of them started. The invariants are checked after the test."""
    log = durable_postgres.directory / "postgres.log"
    log_begins = log.stat().st_size
    system = System(durable_dependencies, durable_postgres, tree, tmp_path)
    try:
        yield system
    finally:
        durable_postgres.resume()
        await durable_postgres.start()
        await system.close()
    logged = log.read_bytes()[log_begins:].decode(errors="replace")
    await check_database(system.database_url, logged)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    if os.environ.get(_SWITCH):
        pytest.skip(f"{_SWITCH} is set")
    directory = tmp_path / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", str(directory)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.fail(_CURE.format(_SWITCH), pytrace=False)
    yield directory
    subprocess.run(["umount", "--lazy", str(directory)], check=True)
