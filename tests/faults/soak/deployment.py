"""The service on servers of its own, and the faults that can hit it."""

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from redis.asyncio import Redis
from sqlalchemy import make_url

from app.embedded import Postgres, Valkey
from app.embedded.ports import LOOPBACK
from app.queues import Queue
from harness.dependencies import Dependencies
from harness.queues import QueueClient, queue_client
from harness.service import Service
from harness.waiting import eventually

_SILENT = 2100  # more than there is room for
_READ_ONLY = "ALTER SYSTEM {} default_transaction_read_only"
_LOG_OUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


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
        self.strikes = [
            Strike("FLUSHDB", Valkey.name, self._flush),
            Strike("read-only PostgreSQL", Postgres.name, self._read_only),
            Strike("another password", Postgres.name, self._another_password),
            Strike("silent connections", "clients", self._silent_connections),
        ]
        # Whoever sends to a queue, or needs it empty, holds its lock.
        self.sending = {queue: asyncio.Lock() for queue in Queue}

    @property
    @abstractmethod
    def dependencies(self) -> Dependencies: ...

    @property
    @abstractmethod
    def admin_url(self) -> str:
        """The database as PostgreSQL's superuser."""

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

    async def _flush(self, seconds: float) -> None:
        """Flushes the cache only: queues and results are in other databases."""
        async with Redis.from_url(self.dependencies.valkey.url, socket_timeout=2) as redis:
            await redis.flushdb()
        await asyncio.sleep(seconds)

    @asynccontextmanager
    async def _operator(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """An earlier strike may have left PostgreSQL on its way back."""
        operator = await eventually(self._login, 30)
        try:
            yield operator
        finally:
            await operator.close()

    async def _login(self) -> "asyncpg.Connection[Any] | None":
        with suppress(OSError, asyncpg.PostgresError):
            return await asyncpg.connect(self.admin_url.replace("+asyncpg", ""), timeout=10)
        return None

    async def _read_only(self, seconds: float) -> None:
        """As after a failover to a standby; open connections too."""
        async with self._operator() as operator:
            await operator.execute("SET default_transaction_read_only = off")
            await operator.execute(_READ_ONLY.format("SET") + " = on")
            await operator.execute("SELECT pg_reload_conf()")
            try:
                await asyncio.sleep(seconds)
            finally:
                await operator.execute(_READ_ONLY.format("RESET"))
                await operator.execute("SELECT pg_reload_conf()")

    async def _another_password(self, seconds: float) -> None:
        """And back. Everybody must log in again."""
        url = make_url(self.database_url)
        async with self._operator() as operator:
            change = f"ALTER ROLE {url.username} PASSWORD "
            await operator.execute(f"{change} 'another'")
            await operator.execute(_LOG_OUT)
            try:
                await asyncio.sleep(seconds)
            finally:
                await operator.execute(f"{change} '{url.password}'")

    async def _silent_connections(self, seconds: float) -> None:
        silent = [socket.socket() for _ in range(_SILENT)]
        for one in silent:
            one.setblocking(False)
            one.connect_ex((LOOPBACK, self.service.port))
        try:
            await asyncio.sleep(seconds)
        finally:
            for one in silent:
                one.close()


async def _is_well(client: httpx.AsyncClient) -> bool:
    try:
        response = await client.get("/health/ready")
    except httpx.TransportError:
        return False
    return response.status_code == 200 and set(response.json()["parts"].values()) == {"ok"}
