"""The connection to the cache's Redis: a short time limit, a breaker, and the run-id guard."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from app.runtime.cancellation import is_our_end

log = structlog.get_logger(__name__)
T = TypeVar("T")

# For all of a call: waiting for a connection, making it, checking it, and the command.
CALL_SECONDS = 0.07
RUN_ID_KEY = "cache:run_id"
_OWN_KEYS = (b"user:", b"product:", b"lease:")
_FAILURES_TO_OPEN = 3
_OPEN_SECONDS = 0.5
_PURGE_BATCH = 1000
# redis-py's defaults retry ten times and wait 5 s for each: a hung server would stop us.
# RESP 3 would switch on its notifications of maintenance, and with them off a check that matters:
# whether a pooled connection is closed, or has an answer on it that nobody waited for.
_PLAIN: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2, "driver_info": None}


class RedisDown(Exception):
    """Redis failed, or has just failed so often that it was not asked."""


class CacheRedis:
    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Redis = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url,
                max_connections=16,
                timeout=None,  # `call` has the only limit
                socket_timeout=None,
                socket_connect_timeout=CALL_SECONDS,
                redis_connect_func=self._check,
                **_PLAIN,
            )
        )
        self._purging: asyncio.Task[None] | None = None
        self._failures = 0
        self._failed_at = 0.0
        self._open_until = 0.0

    @property
    def healthy(self) -> bool:
        return self._failures < _FAILURES_TO_OPEN

    async def call(self, operation: Callable[[Redis], Awaitable[T]]) -> T:
        """Run the operation, or raise RedisDown within CALL_SECONDS."""
        if not self.healthy and time.monotonic() < self._open_until:
            raise RedisDown
        if not self.healthy:  # one caller tries; the others go on without Redis
            self._open_until = time.monotonic() + _OPEN_SECONDS
        try:
            async with asyncio.timeout(CALL_SECONDS):
                result = await operation(self._client)
        # Not RedisError and OSError alone: uvloop raises RuntimeError on a connection that was
        # reset, and redis-py whatever comes to it if the other side speaks another protocol.
        except (Exception, asyncio.CancelledError) as error:
            if is_our_end(error):
                raise
            self._failed(error)
            raise RedisDown from error
        if self._failures:
            self._recovered()
        return result

    def _failed(self, error: BaseException) -> None:
        now = time.monotonic()
        self._open_until = now + _OPEN_SECONDS
        if now - self._failed_at < CALL_SECONDS:
            return  # one hiccup fails all the calls that are in flight, and counts once
        self._failed_at = now
        self._failures += 1
        if self._failures == _FAILURES_TO_OPEN:
            log.warning("cache unavailable, reading from the database", error=repr(error))

    def _recovered(self) -> None:
        if not self.healthy:
            log.warning("cache available again")
        self._failures = 0

    async def close(self) -> None:
        if self._purging is not None:
            self._purging.cancel()
            await asyncio.gather(self._purging, return_exceptions=True)
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def _check(self, connection: AbstractConnection) -> None:
        """Before a new connection's first use: a Redis that restarted may have brought back old
        values from its snapshot. Its run id tells, and a restart breaks all connections."""
        try:
            await connection.on_connect()
            while not await _is_purged(connection):
                # A purge may take longer than the call that finds it necessary.
                await asyncio.shield(self._purge())
        except BaseException:
            # The pool takes whatever is connected for ready.
            await connection.disconnect(nowait=True)
            raise

    def _purge(self) -> "asyncio.Task[None]":
        if self._purging is None or self._purging.done():
            self._purging = asyncio.create_task(_purge(self._url))
            # Its failure is its caller's, who may have left: asyncio would call that an error.
            self._purging.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._purging


async def _is_purged(connection: AbstractConnection) -> bool:
    questions = [("INFO", "server"), ("GET", RUN_ID_KEY)]
    await connection.send_packed_command(connection.pack_commands(questions))
    info = await connection.read_response()
    purged = await connection.read_response()
    for line in info.splitlines():
        if line.startswith(b"run_id:"):
            return bool(line == b"run_id:" + (purged or b""))
    raise RedisConnectionError("Redis does not tell its run id")


async def _purge(url: str) -> None:
    """Delete all that the cache has put there, and note in which run that was done."""
    async with Redis.from_url(
        url, socket_timeout=1, socket_connect_timeout=1, single_connection_client=True, **_PLAIN
    ) as redis:
        run_id = await _run_id(redis)
        cursor = None
        while cursor != 0:
            page: Any = await redis.scan(cursor or 0, count=_PURGE_BATCH)
            cursor, names = page
            if ours := [name for name in names if name.startswith(_OWN_KEYS)]:
                await redis.unlink(*ours)
        if await _run_id(redis) == run_id:
            await redis.set(RUN_ID_KEY, run_id)


async def _run_id(redis: Redis) -> str:
    return str((await redis.info("server"))["run_id"])
