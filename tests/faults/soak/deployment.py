"""The service on servers of its own, and the faults that can strike it."""

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
    """`act` injects the fault, waits for so many seconds, and ends the fault."""

    name: str
    victim: str
    act: Callable[[float], Awaitable[None]]


class Deployment(ABC):
    """`exclusive` is the victim that can start only while all others are healthy."""

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
        """For ever: start again what ended by itself, and raise if it should not have ended."""

    @abstractmethod
    async def repair(self) -> None:
        """Make everything run again after a strike."""

    @abstractmethod
    async def stop_consuming(self) -> None:
        """RabbitMQ does not count messages that a consumer holds, so the consumer must give them
        back."""

    @abstractmethod
    async def close(self) -> None: ...

    @property
    def database_url(self) -> str:
        return self.dependencies.database_url

    def queues(self) -> AbstractAsyncContextManager[QueueClient]:
        return queue_client(self.dependencies)

    async def heal(self) -> None:
        """Wait until the service itself reports that nothing is wrong."""
        await self.repair()
        async with self.service.client() as client:
            await eventually(lambda: _is_well(client), 60, lambda: self.service.web.output[-4000:])

    async def flush(self, seconds: float) -> None:
        """Flush the cache alone. Queues and results are in other databases."""
        async with Redis.from_url(self.dependencies.valkey.url, socket_timeout=2) as redis:
            await redis.flushdb()
        await asyncio.sleep(seconds)


async def _is_well(client: httpx.AsyncClient) -> bool:
    try:
        answer = await client.get("/health/ready")
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and set(answer.json()["parts"].values()) == {"ok"}
