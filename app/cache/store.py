"""The cache's commands: each within a time limit, and none while Redis is known to be ill.

`reads.py` and `invalidation.py` make the protocol of them; docs/cache.md has the argument for it.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection

from app.cache.guard import CLIENT_OPTIONS, Guard
from app.errors import Unavailable
from app.metrics import CACHE_INVALIDATIONS
from app.redis_connections import connection_options
from app.runtime.cancellation import is_our_end
from app.runtime.data_loader import DataLoader
from app.runtime.micro_batcher import MicroBatcher
from app.server_addresses import RedisAddress

log = structlog.get_logger(__name__)
T = TypeVar("T")

# For a whole call: waiting for a connection, making it, checking it, and the command.
CALL_SECONDS = 0.07
_FAILURES_TO_OPEN = 3
_OPEN_SECONDS = 0.5
_LEASE_MS = 3000
_PROBE_KEY = "cache:probe"
# How long a health check waits for a Redis that is about to count.
_PATIENCE_SECONDS = 0.8
_PROBE_MS = 1000
# For all keys that are missed together: each lease is granted only if it is free.
_LEASE = """
local granted = {}
for i, lease in ipairs(KEYS) do
  granted[i] = redis.call('SET', lease, ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0
end
return granted
"""
# Pairs of value and lease. An empty value means that the row does not exist.
_FILL = """
for i = 1, #KEYS, 2 do
  local value = ARGV[2 + (i + 1) / 2]
  if redis.call('GET', KEYS[i + 1]) == ARGV[1] then
    if value == '' then redis.call('DEL', KEYS[i])
    else redis.call('SET', KEYS[i], value, 'EX', ARGV[2]) end
    redis.call('DEL', KEYS[i + 1])
  end
end
"""


class RedisDown(Exception):
    """Redis failed, or has just failed so often that it was not asked."""


def key_prefixes(address: RedisAddress, names: Iterable[str]) -> tuple[bytes, ...]:
    """How all keys begin that are stored here. `names` are those of the entities."""
    return tuple(f"{address.prefix}{name}:".encode() for name in (*names, "lease"))


class _Pool(BlockingConnectionPool):
    """Gives out connections that the guard has checked and would still accept."""

    def __init__(self, *, guard: Guard, **options: Any) -> None:
        super().__init__(redis_connect_func=guard.check, **options)
        self._guard = guard

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        version = self._guard.checked.get(connection)
        if connection.is_connected and version != self._guard.current.version:
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)


class CacheStore:
    def __init__(self, address: RedisAddress, guard: Guard) -> None:
        self._prefix = address.prefix
        self._guard = guard
        self._client: Redis = Redis(
            connection_pool=_Pool.from_url(
                **connection_options(address),
                guard=guard,
                max_connections=16,
                timeout=None,  # `call` has the only limit
                socket_timeout=None,
                socket_connect_timeout=CALL_SECONDS,
                **CLIENT_OPTIONS,
            )
        )
        self._failures = 0
        self._failed_at = 0.0
        self._open_until = 0.0
        self._values = DataLoader(self._get_many)
        # A deletion joins only a call that is not sent yet, so it happens after its own commit.
        self._deletions = MicroBatcher(self._delete_all, most=1000)

    def _value(self, key: str) -> str:
        return self._prefix + key

    def _lease(self, key: str) -> str:
        return f"{self._prefix}lease:{key}"

    @property
    def healthy(self) -> bool:
        return self._failures < _FAILURES_TO_OPEN

    async def call(self, operation: Callable[[Redis], Awaitable[T]]) -> T:
        """The operation's result. Raises RedisDown within CALL_SECONDS."""
        if self._guard.is_taking_over or (not self.healthy and time.monotonic() < self._open_until):
            raise RedisDown
        if not self.healthy:  # one caller tries; the others go on without Redis
            self._open_until = time.monotonic() + _OPEN_SECONDS
        try:
            async with asyncio.timeout(CALL_SECONDS):
                result = await operation(self._client)
        # RedisError and OSError are not all: uvloop raises RuntimeError on a connection that was
        # reset, and redis-py raises anything if the other side does not speak its protocol.
        except (Exception, asyncio.CancelledError) as error:
            if is_our_end(error):
                raise
            if not self._guard.may_take_over:  # that takes longer than a call, and is no failure
                self._failed(error)
            raise RedisDown from error
        if self._failures:
            self._recovered()
        return result

    async def _change(self, operation: Callable[[Redis], Awaitable[T]]) -> T:
        """The same, for what must have happened in the Redis that counts. Raises RedisDown also if
        another one may count by now."""
        current = self._guard.current
        if not current.identity:
            await self.call(lambda redis: redis.ping())  # the first call finds out which does
        version = current.version
        result = await self.call(operation)
        if not current.counts(version):
            raise RedisDown
        return result

    def _failed(self, error: BaseException) -> None:
        now = time.monotonic()
        self._open_until = now + _OPEN_SECONDS
        if now - self._failed_at < CALL_SECONDS:
            return  # one hiccup fails all calls that are in flight: it counts once
        self._failed_at = now
        self._failures += 1
        if self._failures == _FAILURES_TO_OPEN:
            log.warning("cache unavailable, reading from the database", error=repr(error))

    def _recovered(self) -> None:
        if not self.healthy:
            log.warning("cache available again")
        self._failures = 0

    async def ping(self) -> None:
        """Raises Unavailable within a second, also if Redis is full or read-only: then it answers,
        but cannot help."""
        try:
            try:
                await self._probe()
            except RedisDown:
                # The first call finds out which Redis counts. That takes longer than a call, and
                # may be done by now.
                await self._guard.settle(_PATIENCE_SECONDS)
                await self._probe()
        except RedisDown as error:
            raise Unavailable("Redis does not take a value") from error

    async def _probe(self) -> None:
        await self.call(lambda redis: redis.set(self._value(_PROBE_KEY), 1, px=_PROBE_MS))

    def value(self, key: str) -> "asyncio.Future[bytes | None]":
        """Raises RedisDown."""
        return self._values.get(key)

    async def _get_many(self, keys: list[str]) -> dict[str, bytes]:
        values: list[Any] = await self.call(lambda redis: redis.mget(map(self._value, keys)))
        return {key: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def take_leases(self, keys: Sequence[str]) -> tuple[str, list[int]]:
        """A token, and for each key 1 if its lease holds the token now. Raises RedisDown."""
        token = secrets.token_hex(8)
        leases = [self._lease(key) for key in keys]

        async def run(redis: Redis) -> Any:
            return await redis.eval(_LEASE, len(keys), *leases, token, _LEASE_MS)

        return token, await self.call(run)

    async def fill(self, values: Mapping[str, bytes | None], token: str, ttl: int) -> None:
        """Store the values whose lease the token still holds, for `ttl` seconds. Raises
        RedisDown."""
        keys = [name for key in values for name in (self._value(key), self._lease(key))]

        async def run(redis: Redis) -> None:
            found = (value or b"" for value in values.values())
            await redis.eval(_FILL, len(keys), *keys, token, ttl, *found)

        await self.call(run)

    async def delete(self, keys: Sequence[str]) -> bool:
        """True when Redis has confirmed that neither values nor leases are left."""
        return await self._deletions.submit(keys)

    async def _delete_all(self, wanted: Sequence[Sequence[str]]) -> Sequence[bool]:
        keys = {key for some in wanted for key in some}
        try:
            await self._change(
                lambda redis: redis.delete(*map(self._value, keys), *map(self._lease, keys))
            )
        except RedisDown:
            CACHE_INVALIDATIONS.labels("unconfirmed").inc(len(wanted))
            return [False] * len(wanted)
        CACHE_INVALIDATIONS.labels("confirmed").inc(len(wanted))
        return [True] * len(wanted)

    async def delete_and_lease(self, keys: Sequence[str]) -> str:
        """Delete the values and take all their leases, from any holder. Their token; raises
        RedisDown."""
        token = secrets.token_hex(8)

        async def run(redis: Redis) -> None:
            async with redis.pipeline(transaction=True) as pipe:
                pipe.delete(*map(self._value, keys))
                for key in keys:
                    pipe.set(self._lease(key), token, px=_LEASE_MS)
                await pipe.execute()

        await self._change(run)
        CACHE_INVALIDATIONS.labels("confirmed").inc(len(keys))
        return token

    async def close(self) -> None:
        await self._guard.close()
        with suppress(Exception):  # of a server that hangs: its sockets are closed all the same
            await self._client.aclose()
            await self._client.connection_pool.disconnect()
