"""The service's processes, with what the fault tests do to them and want to know."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from app.container import Container
from app.embedded import Postgres
from app.queues import CONSUMED, Queue
from harness.databases import connected
from harness.dependencies import Dependencies
from harness.processes import Process, finish
from harness.queues import QueueClient, queue_client
from harness.service import COMMANDS, Service
from harness.shop import Shop
from harness.waiting import eventually
from tests.faults.invariants import check_exactly_once

KILLED = 137


class System(Service):
    def __init__(
        self, dependencies: Dependencies, postgres: Postgres, tree: Path, directory: Path
    ) -> None:
        super().__init__(tree, directory, dependencies.variables)
        self.dependencies = dependencies
        self.postgres = postgres
        self._more: list[Process] = []

    @property
    def database_url(self) -> str:
        return self.dependencies.database_url

    def another(self, name: str, of: str, **variables: str) -> Process:
        """One more process of the kind `of`, not started yet, with a log of its own."""
        process = self.process(name, *COMMANDS[of], **variables)
        self._more.append(process)
        return process

    async def crash(self, kind: str, point: str) -> None:
        """Starts a process that dies at this failpoint, and waits until it has died."""
        process = self.another(f"{kind}-{point}", kind, FAIL_AT=point)
        process.start()
        assert await process.ends(40) == KILLED, process.output

    @asynccontextmanager
    async def container(self) -> AsyncIterator[Container]:
        """A container in the test's own process, without the loops that publish."""
        async with Container.open(self.dependencies.settings()) as container:
            yield container

    @asynccontextmanager
    async def shop(self) -> AsyncIterator[Shop]:
        async with self.container() as container:
            yield await Shop.opened(container)

    def queues(self) -> AbstractAsyncContextManager[QueueClient]:
        return queue_client(self.dependencies)

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        async with connected(self.database_url) as connection:
            return list(await connection.fetch(query, *arguments))

    async def value(self, query: str, *arguments: Any) -> Any:
        return (await self.fetch(query, *arguments))[0][0]

    async def execute(self, statement: str, *arguments: Any) -> None:
        async with connected(self.database_url) as connection:
            await connection.execute(statement, *arguments)

    async def wait_live(self, web: Process) -> None:
        """Waits until the web process responds."""

        async def is_live() -> bool:
            assert web.running, web.output
            try:
                return (await client.get("/health/live")).status_code == 200
            except httpx.TransportError:
                return False

        async with self.client() as client:
            await eventually(is_live, 30)

    async def settled(self, count: int, seconds: float = 30) -> None:
        """Waits until `count` messages have an outcome."""
        query = "SELECT count(*) FROM messages WHERE finished_at IS NOT NULL"

        async def enough() -> bool:
            return bool(await self.value(query) >= count)

        await eventually(enough, seconds, lambda: f"{count} messages are not settled")

    async def outcomes(
        self, queues: QueueClient, published: Mapping[Queue, Iterable[str]], seconds: float = 30
    ) -> dict[str, str]:
        """Waits until every message is settled, checks that each is settled once, and returns the
        outcomes by id. Also stops the worker: RabbitMQ does not count what a consumer holds, so
        the worker must give back what it has."""
        await self.settled(sum(len(list(ids)) for ids in published.values()), seconds)
        for _ in range(5):
            await drained(queues, seconds)
            assert await self.worker.stop() == 0, self.worker.output
            if not await waiting(queues):
                break
            await self.start("worker")  # some messages had only just reached it
        return await check_exactly_once(self.database_url, queues, published)

    def errors(self) -> list[dict[str, Any]]:
        """What the processes have logged at level ERROR."""
        logs = self.directory.glob("*.log")
        return [line for log in logs for line in json_lines(log) if line.get("level") == "error"]

    async def close(self) -> None:
        for process in (*self.processes.values(), *self._more):
            if process.running:
                process.resume()
        await finish(self._more)
        await super().close()


def json_lines(log: Path) -> list[dict[str, Any]]:
    lines = log.read_text(errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


async def waiting(queues: QueueClient) -> int:
    return sum([await queues.count(name) for name in CONSUMED])


async def drained(queues: QueueClient, seconds: float = 30) -> None:
    """Waits until all queues that are consumed are empty."""

    async def are_empty() -> bool:
        return not await waiting(queues)

    await eventually(are_empty, seconds, lambda: "messages are left in the queues")


async def send_all(
    queues: QueueClient, queue: Queue, messages: Mapping[str, Any], pause: float = 0
) -> None:
    """Sends each message with its key as the message id."""
    for message_id, body in messages.items():
        await queues.send(queue, body, message_id)
        await asyncio.sleep(pause)
