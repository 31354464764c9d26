"""Which Redis counts, and that every connection leads to that one.

A Redis that restarts may bring back old values from its snapshot; a replica that takes over may
have missed deletions; and while it does, some processes may still reach its predecessor. So one row
of PostgreSQL names the Redis that counts. Who reaches another one proposes it: from then on none
counts. When all that relied on the former one have noticed, the new one is purged, and counts.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from app.cache.current import CurrentRedis, windows_closed
from app.database import Database
from app.redis_connections import connection_options
from app.repositories.cache_servers import CacheServerRepository, Standing
from app.runtime.clock import now
from app.server_addresses import RedisAddress

_PURGE_BATCH = 1000
# redis-py's defaults retry ten times and wait 5 s each time: a hung server would stop us.
# RESP 3 would switch on redis-py's maintenance notifications, which switch off a check that we
# need: whether a pooled connection is closed, or holds a reply that nobody waited for.
CLIENT_OPTIONS: dict[str, Any] = {
    "retry": Retry(NoBackoff(), 0),
    "protocol": 2,
    "driver_info": None,
}


class CacheServers:
    """The row that names the Redis that counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self) -> Standing | None:
        async with self._database.autocommit() as connection:
            return await CacheServerRepository(connection).find()

    async def propose(self, identity: str, generation: int) -> int | None:
        async with self._database.autocommit() as connection:
            return await CacheServerRepository(connection).propose(identity, generation)

    async def confirm(self, generation: int, purged: Sequence[str]) -> Standing | None:
        async with self._database.autocommit() as connection:
            return await CacheServerRepository(connection).confirm(generation, purged)


class Guard:
    """`prefixes` begin the keys that a purge deletes. `checked` are connections, and the version of
    `current` that each leads to."""

    def __init__(
        self,
        address: RedisAddress,
        prefixes: tuple[bytes, ...],
        current: CurrentRedis,
        servers: CacheServers,
    ) -> None:
        self._address = address
        self._prefixes = prefixes
        self._purged = [prefix.decode() for prefix in prefixes]
        self._servers = servers
        self.checked: WeakKeyDictionary[AbstractConnection, int] = WeakKeyDictionary()
        self._taking_over: asyncio.Task[None] | None = None
        self._has_failed = False
        self.current = current

    async def check(self, connection: AbstractConnection) -> None:
        """Return when the connection's Redis counts. Raises any error of Redis, and Unavailable,
        with the connection closed."""
        try:
            await connection.on_connect()
            identity = await _identity(connection)
            while identity != self.current.identity:
                # This may take longer than the call that needs it.
                await asyncio.shield(self._take_over_once(identity))
            self.checked[connection] = self.current.version
        except BaseException:
            # The pool would take a connection that is still open for a ready one.
            await connection.disconnect(nowait=True)
            raise

    @property
    def is_taking_over(self) -> bool:
        """Until it has, no Redis is used: whoever asks need not wait for it."""
        return self._taking_over is not None and not self._taking_over.done()

    @property
    def may_take_over(self) -> bool:
        """The same, unless the last attempt has failed: then something is wrong with that Redis."""
        return self.is_taking_over and not self._has_failed

    async def settle(self, seconds: float) -> None:
        """Wait for the end of a take-over that is on its way, but no longer than this."""
        if self._taking_over is not None:
            await asyncio.wait([self._taking_over], timeout=seconds)

    def _take_over_once(self, identity: str) -> "asyncio.Task[None]":
        if self._taking_over is None or self._taking_over.done():
            self._taking_over = asyncio.create_task(self._take_over(identity))
            self._taking_over.add_done_callback(self._note)
        return self._taking_over

    def _note(self, task: "asyncio.Task[None]") -> None:
        # Its callers see the failure, but all of them may have left: asyncio would then report an
        # exception that was never retrieved.
        self._has_failed = not task.cancelled() and task.exception() is not None

    async def _take_over(self, identity: str) -> None:
        """Make this Redis the one that counts. Others may be doing the same."""
        looked_at = now()
        standing = await self._servers.find()
        self.current.learn(standing, looked_at)
        if self.current.identity == identity:
            return
        generation = await self._proposed(standing, identity)
        if standing is not None:
            # Nobody reads from the former any more, or has a deletion confirmed by it.
            await windows_closed(now())
        await self._purge(identity)
        looked_at = now()
        confirmed = await self._servers.confirm(generation, self._purged)
        if confirmed is None:
            raise RedisConnectionError("another Redis has been proposed meanwhile")
        self.current.learn(confirmed, looked_at, is_ours=True)

    async def _proposed(self, standing: Standing | None, identity: str) -> int:
        if standing and standing.identity == identity:
            # It is proposed, and who did that may have died; or an older release has purged less.
            return standing.generation
        if self.current.yields:
            raise RedisConnectionError("another Redis counts")
        looked_at = now()
        known = standing.generation if standing else 0
        generation = await self._servers.propose(identity, known)
        if generation is None:
            raise RedisConnectionError("another Redis has been proposed meanwhile")
        self.current.learn(Standing(generation, identity, None), looked_at, is_ours=True)
        return generation

    async def _purge(self, identity: str) -> None:
        """Delete all keys of the cache in this Redis, and in no other."""

        async def check(connection: AbstractConnection) -> None:
            await connection.on_connect()
            if await _identity(connection) != identity:
                raise RedisConnectionError("another Redis answers now")

        async with Redis.from_url(
            **connection_options(self._address),
            socket_timeout=1,
            socket_connect_timeout=1,
            redis_connect_func=check,
            **CLIENT_OPTIONS,
        ) as redis:
            cursor = None
            while cursor != 0:
                page: Any = await redis.scan(cursor or 0, count=_PURGE_BATCH)
                cursor, names = page
                if ours := [name for name in names if name.startswith(self._prefixes)]:
                    await redis.unlink(*ours)

    async def close(self) -> None:
        if self._taking_over is not None:
            self._taking_over.cancel()
            await asyncio.gather(self._taking_over, return_exceptions=True)


async def _identity(connection: AbstractConnection) -> str:
    """Names the server's run, and the history of its data, which changes when it becomes a replica
    and when a replica takes over."""
    questions = [("INFO", "server"), ("INFO", "replication")]
    await connection.send_packed_command(connection.pack_commands(questions))
    told = b"\n".join([await connection.read_response() for _ in questions])
    facts: Mapping[bytes, bytes] = dict(
        line.split(b":", 1) for line in told.splitlines() if b":" in line
    )
    if facts.get(b"role", b"master") != b"master":
        raise RedisConnectionError("it is a replica")
    if b"run_id" not in facts:
        raise RedisConnectionError("Redis does not tell its run id")
    return f"{facts[b'run_id'].decode()}:{facts.get(b'master_replid', b'').decode()}"
