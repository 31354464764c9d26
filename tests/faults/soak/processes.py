"""Web, worker, scheduler and TaskIQ worker, on PostgreSQL, Valkey and RabbitMQ."""

import asyncio
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelPreconditionFailed

from app.embedded import Postgres, Valkey
from app.embedded.server import Server
from app.queues import Queue
from harness.databases import alembic
from harness.dependencies import Dependencies
from harness.processes import Process
from harness.rabbitmq import USER, VHOST, RabbitMQ
from harness.service import Service
from harness.waiting import eventually
from tests.faults.soak.deployment import Deployment, Strike

# The machine stays up, so the kernel's page cache survives every kill: no fsync is needed. Commits
# stay synchronous, though, because an acknowledged one must not be lost.
_OPTIONS = {"fsync": "off", "shared_buffers": "32MB"}
_ODD = Queue.ORDER_UPDATE


class Processes(Deployment):
    def __init__(
        self, service: Service, dependencies: Dependencies, postgres: Postgres, rabbitmq: RabbitMQ
    ) -> None:
        super().__init__(service)
        self._dependencies = dependencies
        self._postgres = postgres
        self._valkey = dependencies.valkey
        self._rabbitmq = rabbitmq
        self._down: set[str] = set()
        self.strikes += [
            *(self._killing(name, process) for name, process in service.processes.items()),
            *(_freezing(name, service.processes[name]) for name in ("web", "worker")),
            *(self._server_killing(server) for server in (postgres, self._valkey)),
            *(_freezing(server.name, server) for server in (postgres, self._valkey)),
            Strike("immediate stop of PostgreSQL", postgres.name, self._stop_postgres),
            Strike("kill -9 RabbitMQ", "RabbitMQ", self._kill_rabbitmq),
            _freezing("RabbitMQ", rabbitmq.node),
            Strike("a refused queue", "RabbitMQ", self._refused_queue),
            Strike("a redeclared queue", "RabbitMQ", self._redeclared_queue),
        ]

    @classmethod
    async def prepared(cls, tree: Path, directory: Path) -> "Processes":
        (directory / "rabbitmq").mkdir()
        postgres, valkey = Postgres(directory, options=_OPTIONS), Valkey(directory)
        rabbitmq = RabbitMQ(directory / "rabbitmq")
        await asyncio.gather(postgres.start(), valkey.start(), rabbitmq.start())
        dependencies = Dependencies(postgres.url, valkey, rabbitmq)
        await alembic(postgres.url, tree, "upgrade", "head")
        service = Service(tree, directory, dependencies.variables)
        return cls(service, dependencies, postgres, rabbitmq)

    @property
    def dependencies(self) -> Dependencies:
        return self._dependencies

    @property
    def admin_url(self) -> str:
        return self._postgres.admin_url

    @property
    def postgres_log(self) -> Path:
        return self._postgres.directory / "postgres.log"

    async def start(self) -> None:
        await self.service.start(*self.service.processes)

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(1)
            for name, process in self.service.processes.items():
                ended = not process.running and name not in self._down
                assert not ended, f"{name} ended by itself: {process.output[-4000:]}"

    async def repair(self) -> None:
        for frozen in (self._postgres, self._valkey):
            frozen.resume()
        for paused in (*self.service.processes.values(), self._rabbitmq.node):
            if paused.running:
                paused.resume()
        await asyncio.gather(self._postgres.start(), self._valkey.start(), self._rabbitmq.start())
        for process in self.service.processes.values():
            if not process.running:
                process.start()

    async def stop_consuming(self) -> None:
        assert await self.service.worker.stop() == 0, self.service.worker.output[-4000:]

    async def close(self) -> None:
        await self.repair()
        await self.service.close()
        self._rabbitmq.close()
        await asyncio.gather(self._postgres.stop(), self._valkey.stop())

    def _killing(self, name: str, process: Process) -> Strike:
        async def act(seconds: float) -> None:
            self._down.add(name)
            process.kill()
            await asyncio.sleep(seconds)
            process.start()
            self._down.discard(name)

        return Strike(f"kill -9 {name}", name, act)

    def _server_killing(self, server: Server) -> Strike:
        async def act(seconds: float) -> None:
            server.kill()
            await asyncio.sleep(seconds)
            await server.start()

        return Strike(f"kill -9 {server.name}", server.name, act)

    async def _stop_postgres(self, seconds: float) -> None:
        await self._postgres.immediate()
        await asyncio.sleep(seconds)
        await self._postgres.start()

    async def _kill_rabbitmq(self, seconds: float) -> None:
        self._rabbitmq.kill()
        await asyncio.sleep(seconds)
        await self._rabbitmq.start()

    async def _redeclared_queue(self, seconds: float) -> None:
        """Deleted and declared with other arguments, while it is empty: so no message is lost."""
        async with self.sending[_ODD], await aio_pika.connect(self._rabbitmq.url) as connection:
            await eventually(self._is_empty, 30)
            channel = await eventually(lambda: _redeclared(connection))
            try:
                await asyncio.sleep(seconds)
            finally:
                await channel.queue_delete(_ODD)

    async def _is_empty(self) -> bool:
        """Unlike AMQP, rabbitmqctl counts what a consumer holds too."""
        listed = await self._rabbitmq.control("list_queues", "-p", VHOST, "name", "messages")
        return f"{_ODD}\t0" in listed.splitlines()

    async def _refused_queue(self, seconds: float) -> None:
        """For all who must log in again."""
        allowed = ("set_permissions", "-p", VHOST, USER)
        others = f"^(?!{_ODD}$).*"
        await self._rabbitmq.control(*allowed, others, ".*", others)
        try:
            await self._rabbitmq.control("close_all_connections", "a strike")
            await asyncio.sleep(seconds)
        finally:
            await self._rabbitmq.control(*allowed, ".*", ".*", ".*")


async def _redeclared(connection: AbstractConnection) -> AbstractChannel | None:
    """None if the worker was quicker to declare it."""
    channel = await connection.channel()
    await channel.queue_delete(_ODD)
    try:
        await channel.declare_queue(_ODD, durable=True, arguments={"x-max-length": 9})
    except ChannelPreconditionFailed:
        return None
    return channel


def _freezing(name: str, frozen: Process | Server) -> Strike:
    async def act(seconds: float) -> None:
        frozen.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            frozen.resume()

    return Strike(f"freeze {name}", name, act)
