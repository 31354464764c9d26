"""The private servers of one run, and the processes that are measured on them."""

import asyncio
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded import Postgres, Valkey
from app.embedded.ports import LOOPBACK, free_port
from app.settings import ROOT
from benchmarks.load import Load, generate
from benchmarks.results import Figures
from benchmarks.usage import Meter
from harness.databases import Databases
from harness.dependencies import Dependencies
from harness.processes import Process, finish
from harness.rabbitmq import RabbitMQ
from harness.service import PYTHON, Service
from harness.tree import copy_tree
from harness.waiting import eventually

CPU, RATE, POSTGRES_CPU = "server CPU µs", "requests/s", "PostgreSQL CPU µs"


@dataclass(frozen=True)
class Size:
    """`seconds` is the length of a burst. `scale` multiplies the sizes of the tables."""

    rounds: int = 5
    seconds: float = 3.0
    scale: float = 1.0

    def rows(self, full: int, least: int = 1) -> int:
        return max(round(full * self.scale), least)


QUICK = Size(rounds=1, seconds=0.2, scale=0.001)


@dataclass(frozen=True)
class Web:
    """Processes that serve HTTP, all of them the same application."""

    ports: tuple[int, ...]
    pids: tuple[int, ...]


class Lab:
    def __init__(self, directory: Path, size: Size, stack: AsyncExitStack) -> None:
        self.size = size
        self.directory = directory
        self.postgres = Postgres(directory / "postgres")
        self.valkey = Valkey(directory / "valkey")
        self.databases = Databases(self.postgres)
        self.tree = directory / "tree"
        self._stack = stack
        self._numbers = itertools.count()
        self._rabbitmq: RabbitMQ | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, size: Size) -> AsyncIterator["Lab"]:
        with tempfile.TemporaryDirectory(prefix="order-service-benchmarks-") as directory:
            os.chmod(directory, 0o755)  # the servers may run as another user
            async with AsyncExitStack() as stack:
                lab = cls(Path(directory), size, stack)
                copy_tree(lab.tree)
                for server in (lab.postgres, lab.valkey):
                    await server.start()
                    stack.push_async_callback(server.stop)
                await lab.databases.migrate_template(lab.tree)
                yield lab

    async def rabbitmq(self) -> RabbitMQ:
        if self._rabbitmq is None:
            self._rabbitmq = RabbitMQ(self.folder("rabbitmq"))
            self._stack.callback(self._rabbitmq.close)
            await self._rabbitmq.start()
        return self._rabbitmq

    def folder(self, name: str) -> Path:
        folder = self.directory / f"{name}-{next(self._numbers)}"
        folder.mkdir()
        return folder

    @asynccontextmanager
    async def database(self, fill: Callable[[str], Awaitable[None]]) -> AsyncIterator[str]:
        async with self.databases.fresh() as url:
            await fill(self.databases.admin_url(url))
            yield url

    @asynccontextmanager
    async def service(
        self, url: str, *names: str, rabbitmq: RabbitMQ | None = None, **variables: str
    ) -> AsyncIterator[Service]:
        """The service's processes, as their users start them."""
        dependencies = Dependencies(url, self.valkey, rabbitmq)
        variables = {**dependencies.variables, **variables}
        async with Service(self.tree, self.folder("service"), variables) as service:
            await service.start(*names)
            yield service

    @asynccontextmanager
    async def web(self, url: str, **variables: str) -> AsyncIterator[Web]:
        async with self.service(url, "web", rabbitmq=None, **variables) as service:
            yield Web((service.port,), (service.web.pid,))

    @asynccontextmanager
    async def peer(self, module: str, url: str) -> AsyncIterator[Web]:
        """An ASGI application of `benchmarks.peers`, under the same server as the service."""
        port = free_port()
        options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        command = ["-m", "uvicorn", f"benchmarks.peers.{module}:app", *options]
        process = self.process(module, PYTHON, *command, "--port", str(port), url=url)
        async with started(process):
            await process.says("Application startup complete")
            await eventually(lambda: _listens(port), 30)
            yield Web((port,), (process.pid,))

    def process(self, name: str, *command: str | Path, url: str = "", **more: str) -> Process:
        """A process on the same servers as the service, but with database 9 of Valkey."""
        variables = {"DATABASE_URL": url, "REDIS_URL": f"{self.valkey.url}/9", **more}
        log = self.folder(name) / "log"
        return Process(name, command, variables, directory=ROOT, log=log)

    async def burst(self, load: Load, web: Web) -> Figures:
        """Send the load for `size.seconds`. The CPU times are per request."""
        servers, postgres = Meter(*web.pids), Meter(self.postgres.pid)
        responses = await generate(load, web.ports, self.size.seconds)
        return {
            CPU: servers.seconds / responses.total * 1e6,
            RATE: responses.total / responses.seconds,
            POSTGRES_CPU: postgres.seconds / responses.total * 1e6,
        }

    def psql(self, url: str, *arguments: str) -> list[str]:
        """The command line of a psql of the server's own version."""
        program = str(self.postgres.psql_program)
        return [program, url.replace("+asyncpg", ""), *arguments]


@asynccontextmanager
async def started(process: Process) -> AsyncIterator[Process]:
    process.start()
    try:
        yield process
    finally:
        await finish([process])


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True
