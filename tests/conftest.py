"""Fixtures: private servers, started when the first test needs them, and the service on them."""

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import structlog
from playwright.async_api import Browser
from redis.asyncio import Redis

from app import web
from app.container import Container
from app.embedded import Postgres, Valkey
from app.runtime.garbage import start_without_gc, tune_gc
from app.settings import Settings
from harness.browser import chromium_started
from harness.databases import Databases
from harness.dependencies import Dependencies
from harness.lifespan import lifespan
from harness.queues import QueueClient, queue_client
from harness.rabbitmq import RabbitMQ
from harness.service import Service, one_command
from harness.shop import Shop
from harness.tree import copy_tree

# A developer's environment must not point a test at the developer's servers.
for _name in Settings.model_fields:
    os.environ.pop(_name.upper(), None)

# With it, every process of the tests would compile all that it imports, which takes seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Garbage collection, if it is not tuned as in the service, takes a seventh of what the tests' own
# processes compute.
start_without_gc()


def pytest_collection_finish() -> None:
    tune_gc()


def _keep_files_in_memory() -> None:
    """A start of the service writes 60 MB, which takes a slow disk two seconds."""
    memory = "/dev/shm"
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 8 << 30:
        tempfile.tempdir = os.environ["TMPDIR"] = memory


_keep_files_in_memory()

# SIGTERM, as a CI time limit sends it, ends the tests like Ctrl-C: the servers are stopped and
# their files removed.
signal.signal(signal.SIGTERM, signal.default_int_handler)

# structlog's default renders a traceback with all local variables, which takes seconds.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=str),
    ]
)

_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the service's files without a `.env`; the processes of the tests run in it."""
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="order-service-") as directory:
        server = Postgres(Path(directory), options=_NOT_DURABLE)
        await server.start()
        yield server
        await server.stop()


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with chromium_started() as browser:
        yield browser


@pytest.fixture(scope="session")
async def databases(postgres: Postgres, tree: Path) -> Databases:
    databases = Databases(postgres)
    await databases.migrate_template(tree)
    return databases


@pytest.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    async with databases.fresh() as url:
        yield url


@pytest.fixture(scope="session")
async def _valkey_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    await server.stop()


@pytest.fixture
async def valkey(_valkey_server: Valkey) -> Valkey:
    """Empty, and running even if the previous test stopped it."""
    await _valkey_server.start()
    async with Redis(port=_valkey_server.port) as client:
        await client.flushall()
    return _valkey_server


@pytest.fixture(scope="session")
def _rabbitmq_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    node = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    yield node
    node.close()


@pytest.fixture
async def rabbitmq(_rabbitmq_node: RabbitMQ) -> RabbitMQ:
    """Without queues, and running even if the previous test stopped it."""
    await _rabbitmq_node.start()
    await _rabbitmq_node.delete_queues()
    return _rabbitmq_node


@pytest.fixture
def transport() -> str:
    """Tests of the queues are parametrised with both, "rabbitmq" and "streams"."""
    return "streams"


@pytest.fixture
def dependencies(
    transport: str, database_url: str, valkey: Valkey, request: pytest.FixtureRequest
) -> Dependencies:
    rabbitmq = request.getfixturevalue("rabbitmq") if transport == "rabbitmq" else None
    return Dependencies(database_url, valkey, rabbitmq)


@pytest.fixture
async def queues(dependencies: Dependencies) -> AsyncIterator[QueueClient]:
    async with queue_client(dependencies) as client:
        yield client


@pytest.fixture
def settings(dependencies: Dependencies) -> Settings:
    return dependencies.settings()


@pytest.fixture
async def container(settings: Settings) -> AsyncIterator[Container]:
    async with Container.open(settings) as opened:
        yield opened


@pytest.fixture
async def shop(container: Container) -> Shop:
    return await Shop.opened(container)


@pytest.fixture
async def processes(
    dependencies: Dependencies, tree: Path, tmp_path: Path
) -> AsyncIterator[Service]:
    """The service as four processes, none of them started yet."""
    async with Service(tree, tmp_path, dependencies.variables) as service:
        yield service


@pytest.fixture
async def embedded(tree: Path, tmp_path: Path) -> AsyncIterator[Service]:
    """`python main.py` with nothing configured, not started yet."""
    async with Service(tree, tmp_path, {"DATA_DIR": str(tmp_path / "data")}) as service:
        yield service


@pytest.fixture(scope="module")
async def service(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """The whole service in one process, running, for all tests of a module."""
    async with one_command(tree, tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
async def client(container: Container) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the HTTP application, in this process and without a socket."""
    app = web.create_app(container, web.new_places())
    async with lifespan(app):
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client
