"""Processes of the service, each with its own proxy to Redis, on servers of their own."""

import asyncio
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

from redis.asyncio import Redis

from app.embedded import Valkey
from app.embedded.ports import LOOPBACK, free_port
from app.settings import ROOT
from harness.processes import Process, finish
from harness.waiting import eventually
from tests.faults.keepalive import KeepAlive, Lost
from tests.faults.proxy import Proxy

SERVE: Sequence[str] = ("main.py",)
_COUNTER = re.compile(rb'^cache_reads_total\{kind="(\w+)",result="(\w+)"\} (\S+)$', re.MULTILINE)
# Without the append-only file Redis comes back after a kill -9 with exactly what was last saved.
_VALKEY = {"appendonly": "no"}


class Member:
    """A process of the service, and the proxy through which alone it reaches Redis."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        log: Path,
        link: Proxy,
    ) -> None:
        self.port = free_port()
        self.link = link
        self.process = Process(
            name,
            [sys.executable, *command],
            {
                **environment,
                "HOST": LOOPBACK,
                "PORT": str(self.port),
                "REDIS_HOST": link.host,
                "REDIS_PORT": str(link.port),
            },
            directory=directory,
            log=log,
        )

    async def serve(self) -> None:
        """Starts the process and waits until it responds."""
        self.process.start()
        await eventually(self._is_live, 30, lambda: self.process.output[-4000:])

    async def _is_live(self) -> bool:
        with suppress(Lost), closing(KeepAlive(self.port)) as client:
            return (await client.get("/health/live")).status == 200
        assert self.process.running, self.process.output[-4000:]
        return False

    async def cache_reads(self, result: str) -> float:
        """Reads with this result, of users and products together, by the process's own counters."""
        with closing(KeepAlive(self.port)) as client:
            text = (await client.get("/metrics")).body
        return sum(float(n) for _, name, n in _COUNTER.findall(text) if name.decode() == result)

    async def wait_cached(self, path: str) -> None:
        """Waits until five consecutive GETs of `path` are served from the cache."""

        async def cached() -> bool:
            before = await self.cache_reads("hit")
            with closing(KeepAlive(self.port)) as client:
                for _ in range(5):
                    await client.get(path)
            return await self.cache_reads("hit") == before + 5

        await eventually(cached, 10, lambda: f"{self.process.name} does not use the cache")


class Stack:
    """Two web processes: most reads go to `reader`, all writes to `writer`.

    `valkey` is their Redis; `replica` is another one, not started, for those that fail over."""

    def __init__(
        self, valkey: Valkey, environment: Mapping[str, str], tree: Path, serve: Sequence[str]
    ) -> None:
        self.valkey = valkey
        self.replica = Valkey(valkey.directory / "replica", config=_VALKEY)
        self._environment = {
            "PYTHONPATH": str(
                ROOT
            ),  # tests/faults/naive.py is imported from here, all else from the tree
            "LOG_FORMAT": "json",
            "LOG_LEVEL": "WARNING",
            "RABBITMQ_HOST": LOOPBACK,
            "RABBITMQ_PORT": "9",  # nothing listens there
            "RABBITMQ_PASSWORD": "no warning wanted",
            **environment,
        }
        self._tree = tree
        self._serve = serve
        self.reader = self._member("reader", serve)
        self.writer = self._member("writer", serve)
        self.others: list[Member] = []

    @asynccontextmanager
    async def joined(self, name: str, *command: str, **environment: str) -> AsyncIterator[Member]:
        """Adds a process, by default a web process, without starting it."""
        member = self._member(name, command or self._serve, environment)
        self.others.append(member)
        await member.link.start()
        try:
            yield member
        finally:
            self.others.remove(member)
            await finish([member.process])
            await member.link.close()

    def _member(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Member:
        link = Proxy(self.valkey.port)
        variables = {**self._environment, **(environment or {})}
        log = self.valkey.directory / f"{name}.log"
        return Member(name, command, variables, self._tree, log, link)

    @property
    def members(self) -> list[Member]:
        return [self.reader, self.writer, *self.others]

    async def start(self) -> None:
        await self.valkey.start()
        for member in self.members:
            await member.link.start()
        await asyncio.gather(self.reader.serve(), self.writer.serve())

    async def close(self) -> None:
        await finish([member.process for member in self.members])
        for member in self.members:
            await member.link.close()
        await self.replica.stop()
        await self.valkey.stop()

    @asynccontextmanager
    async def redis(self, server: Valkey | None = None) -> AsyncIterator[Redis]:
        """A client that bypasses the proxies. The shield: a cancellation that meets the end of
        `async with Redis(...)` leaves its connection open, and so does one in `aclose`."""
        client = Redis(port=(server or self.valkey).port, socket_timeout=None)
        try:
            yield client
        finally:
            await asyncio.shield(client.aclose())

    def lead(self, server: Valkey, *members: Member) -> None:
        """From now on their Redis is this one: same address, other server."""
        for member in members or self.members:
            member.link.target = (server.host, server.port)
            member.link.cut()

    async def replicate(self) -> None:
        """Returns when the replica has all that is in `valkey`."""
        await self.replica.start()
        async with self.redis(self.replica) as replica, self.redis() as valkey:
            for server in (valkey, replica):  # 5 s by default, for more replicas to come
                await server.config_set("repl-diskless-sync-delay", "0")
            await replica.replicaof(self.valkey.host, self.valkey.port)
            await eventually(lambda: follows(replica, valkey), 30)

    async def promote(self) -> None:
        """From now on the replica takes writes, and learns of no deletion in `valkey`."""
        async with self.redis(self.replica) as replica:
            await replica.replicaof("NO", "ONE")

    async def heal(self) -> None:
        """Ends every illness of Redis and of the connections to it."""
        self.valkey.resume()
        await self.valkey.start()
        async with self.redis() as redis:
            await redis.client_unpause()
            await redis.config_set("maxmemory", "256mb")
            await redis.config_set("min-replicas-to-write", "0")
        self.lead(self.valkey)
        for member in self.members:
            await member.link.heal()

    async def cache_reads(self, result: str) -> float:
        return sum([await web.cache_reads(result) for web in (self.reader, self.writer)])


async def follows(replica: Redis, primary: Redis) -> bool:
    """Whether the replica has all that the primary has."""
    seen, known = await replica.info("replication"), await primary.info("replication")
    return bool(
        seen.get("master_link_status") == "up"
        and seen["slave_repl_offset"] == known["master_repl_offset"]
    )


@asynccontextmanager
async def stack_on(
    database_url: str, tree: Path, serve: Sequence[str] = SERVE
) -> AsyncIterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="stack-") as directory:
        valkey = Valkey(Path(directory), config=_VALKEY)
        stack = Stack(valkey, {"DATABASE_URL": database_url}, tree, serve)
        try:
            await stack.start()
            yield stack
        finally:
            await stack.close()
