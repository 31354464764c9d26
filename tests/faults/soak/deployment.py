"""The service on servers of its own, and the faults that can hit it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx
from redis.asyncio import Redis

from harness.dependencies import Dependencies
from harness.queues import QueueClient, queue_client
from harness.service import Service
from harness.waiting import eventually


@dataclass(frozen=True)
class Strike:
    """A fault: `act` breaks the victim, waits for the given seconds, and lets it go on."""

    name: str
    victim: str
    act: Callable[[float], Awaitable[None]]


class Deployment(ABC):
    """`exclusive` names the victim that can start only while all others are healthy."""

    exclusive = ""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.strikes: list[Strike] = []

    @property
    @abstractmethod
    def dependencies(self) -> Dependencies: ...

    @property
    @abstractmethod
    def postgres_log(self) -> Path: ...

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    async def watch(self) -> None:
        """Restarts forever what ended by itself; raises AssertionError if it should not have."""

    @abstractmethod
    async def repair(self) -> None:
        """Gets everything running again, in whatever state a strike has left it."""

    @abstractmethod
    async def stop_consuming(self) -> None:
        """Makes the consumer give back what it holds: RabbitMQ does not count that as waiting."""

    @abstractmethod
    async def close(self) -> None: ...

    @property
    def database_url(self) -> str:
        return self.dependencies.database_url

    def queues(self) -> AbstractAsyncContextManager[QueueClient]:
        return queue_client(self.dependencies)

    async def heal(self) -> None:
        """Repairs everything and waits until the service itself reports that all is well."""
        await self.repair()
        async with self.service.client() as client:
            await eventually(lambda: _is_well(client), 60, lambda: self.service.web.output[-4000:])

    async def flush(self, seconds: float) -> None:
        """Flushes the cache only: queues and results are in other databases."""
        async with Redis.from_url(self.dependencies.valkey.url, socket_timeout=2) as redis:
            await redis.flushdb()
        await asyncio.sleep(seconds)


async def _is_well(client: httpx.AsyncClient) -> bool:
    try:
        response = await client.get("/health/ready")
    except httpx.TransportError:
        return False
    return response.status_code == 200 and set(response.json()["parts"].values()) == {"ok"}
