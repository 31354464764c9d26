"""Checks every new connection to the cache's Redis before its first use.

A Redis that restarts may bring back old values from its snapshot. A restart breaks all connections
and changes the server's run id, so a connection that finds another run id than the one of the last
purge purges the cache first. And so does one that finds prefixes missing there: a process of an
older release has purged, which knows fewer entities.
"""

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from app.redis_connections import connection_options
from app.server_addresses import RedisAddress

RUN_ID_KEY = "cache:run_id"
_PURGE_BATCH = 1000
# redis-py's defaults retry ten times and wait 5 s each time: a hung server would stop us.
# RESP 3 would switch on redis-py's maintenance notifications, which switch off a check that we
# need: whether a pooled connection is closed, or holds a reply that nobody waited for.
CLIENT_OPTIONS: dict[str, Any] = {
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
    "driver_info": None,
}


class RunIdGuard:
    """`prefixes` begin the keys that a purge deletes."""

    def __init__(self, address: RedisAddress, prefixes: tuple[bytes, ...]) -> None:
        self._address = address
        self._prefixes = prefixes
        self.run_id_key = address.prefix + RUN_ID_KEY
        self._purging: asyncio.Task[None] | None = None

    async def check(self, connection: AbstractConnection) -> None:
        """Return when no value in the cache is older than the server's run. Raises any error of
        Redis, with the connection closed."""
        try:
            await connection.on_connect()
            while not await self._is_purged(connection):
                # A purge may take longer than the call that needs it.
                await asyncio.shield(self._purge_once())
        except BaseException:
            # The pool would take a connection that is still open for a ready one.
            await connection.disconnect(nowait=True)
            raise

    async def _is_purged(self, connection: AbstractConnection) -> bool:
        questions = [("INFO", "server"), ("GET", self.run_id_key)]
        await connection.send_packed_command(connection.pack_commands(questions))
        info = await connection.read_response()
        purged = await connection.read_response()
        for line in info.splitlines():
            if line.startswith(b"run_id:"):
                run_id, *prefixes = (purged or b"").split(b"\n")
                return line == b"run_id:" + run_id and set(self._prefixes) <= set(prefixes)
        raise RedisConnectionError("Redis does not tell its run id")

    def _purge_once(self) -> "asyncio.Task[None]":
        if self._purging is None or self._purging.done():
            self._purging = asyncio.create_task(self._purge())
            # Its callers see the failure, but all of them may have left: asyncio would then report
            # an exception that was never retrieved.
            self._purging.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._purging

    async def _purge(self) -> None:
        """Delete all keys of the cache, then note the run in which that was done."""
        async with Redis.from_url(
            **connection_options(self._address),
            socket_timeout=1,
            socket_connect_timeout=1,
            **CLIENT_OPTIONS,
        ) as redis:
            run_id = await _run_id(redis)
            cursor = None
            while cursor != 0:
                page: Any = await redis.scan(cursor or 0, count=_PURGE_BATCH)
                cursor, names = page
                if ours := [name for name in names if name.startswith(self._prefixes)]:
                    await redis.unlink(*ours)
            if await _run_id(redis) == run_id:
                await redis.set(self.run_id_key, b"\n".join([run_id.encode(), *self._prefixes]))

    async def close(self) -> None:
        if self._purging is not None:
            self._purging.cancel()
            await asyncio.gather(self._purging, return_exceptions=True)


async def _run_id(redis: Redis) -> str:
    return str((await redis.info("server"))["run_id"])
