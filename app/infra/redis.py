"""The connection to the cache's Redis: short time limits, a breaker, and the run-id guard."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)
T = TypeVar("T")

OPERATION_LIMIT = 0.05
RUN_ID_KEY = "cache:run_id"
_OWN_KEYS = ("user:*", "product:*", "lease:*")
_FAILURES_TO_OPEN = 3
_OPEN_SECONDS = 0.5


class RedisDown(Exception):
    """Redis failed, or has just failed so often that it was not asked."""


class CacheRedis:
    def __init__(self, url: str) -> None:
        # redis-py's defaults retry ten times and wait 5 s for each: a hung server would stop us.
        self._client: Redis = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url,
                max_connections=16,
                timeout=OPERATION_LIMIT,
                socket_timeout=OPERATION_LIMIT,
                socket_connect_timeout=OPERATION_LIMIT,
                retry=Retry(NoBackoff(), 0),
                redis_connect_func=_purge_after_restart,
            )
        )
        self._failures = 0
        self._closed_until = 0.0

    @property
    def healthy(self) -> bool:
        return self._failures < _FAILURES_TO_OPEN

    async def call(self, operation: Callable[[Redis], Awaitable[T]]) -> T:
        """Run the operation, or raise RedisDown within about two operation limits."""
        if not self.healthy and time.monotonic() < self._closed_until:
            raise RedisDown
        if not self.healthy:  # one caller tries; the others go on without Redis
            self._closed_until = time.monotonic() + _OPEN_SECONDS
        try:
            result = await operation(self._client)
        except (RedisError, OSError) as error:
            self._failed(error)
            raise RedisDown from error
        if self._failures:
            self._recovered()
        return result

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._closed_until = time.monotonic() + _OPEN_SECONDS
        if self._failures == _FAILURES_TO_OPEN:
            log.warning("cache unavailable, reading from the database", error=repr(error))

    def _recovered(self) -> None:
        if not self.healthy:
            log.warning("cache available again")
        self._failures = 0

    async def close(self) -> None:
        await self._client.aclose()
        await self._client.connection_pool.disconnect()


async def _command(connection: AbstractConnection, *args: Any) -> Any:
    await connection.send_command(*args)
    return await connection.read_response()


async def _purge_after_restart(connection: AbstractConnection) -> None:
    """A Redis that restarted may have brought back old values from its snapshot.

    Its run id tells. All connections break at a restart, so checking each new one before its first
    use is enough."""
    await connection.on_connect()
    info = await _command(connection, "INFO", "server")
    lines = (info if isinstance(info, bytes) else info.encode()).splitlines()
    run_id = next(line.partition(b":")[2] for line in lines if line.startswith(b"run_id:"))
    if await _command(connection, "GET", RUN_ID_KEY) == run_id:
        return
    for pattern in _OWN_KEYS:
        cursor: bytes | int = 0
        while True:
            cursor, keys = await _command(
                connection, "SCAN", cursor, "MATCH", pattern, "COUNT", 500
            )
            if keys:
                await _command(connection, "UNLINK", *keys)
            if int(cursor) == 0:
                break
    await _command(connection, "SET", RUN_ID_KEY, run_id)
