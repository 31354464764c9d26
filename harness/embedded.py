"""Embedded servers that a test starts itself, and ways to see whether their data survived."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from app.embedded import Postgres, Valkey
from app.embedded.processes import processes_in
from app.embedded.server import Server
from app.settings import ROOT
from harness.databases import connected

FAST = {"fsync": "off"}
_PARENT = """
import asyncio, json, sys
from pathlib import Path
from app.embedded import embedded_servers

async def main():
    async with embedded_servers(Path(sys.argv[1])) as servers:
        print(json.dumps([servers.postgres.pid, servers.valkey.pid]), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def make(kind: str, directory: Path) -> Server:
    return Postgres(directory, options=FAST) if kind == "postgres" else Valkey(directory)


async def sql(url: str, statement: str) -> Any:
    async with connected(url) as connection:
        return await connection.fetchval(statement)


async def write(server: Server) -> None:
    if isinstance(server, Postgres):
        await sql(server.url, "CREATE TABLE kept AS SELECT 1 AS one")
    elif isinstance(server, Valkey):
        async with Redis.from_url(server.url) as client:
            await client.set("kept", 1)


async def is_kept(server: Server) -> bool:
    if isinstance(server, Postgres):
        return bool(await sql(server.url, "SELECT one FROM kept"))
    assert isinstance(server, Valkey)
    async with Redis.from_url(server.url) as client:
        return await client.get("kept") is not None


@contextmanager
def parent_of(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that starts both servers and prints their pids once they are ready."""
    command = [sys.executable, "-c", _PARENT, str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def left_over(directory: Path) -> list[int]:
    """The pids of the servers that still run on these data."""
    return processes_in(directory / "postgres", "postgres") + processes_in(
        directory / "valkey", "valkey-server"
    )
