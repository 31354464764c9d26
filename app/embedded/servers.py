"""Both bundled servers on one data directory, for one process at a time."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from app import state_file
from app.embedded.errors import EmbeddedServerError
from app.embedded.postgres import Postgres
from app.embedded.server import Server
from app.embedded.valkey import Valkey

if sys.platform != "win32":
    import fcntl


class EmbeddedServers:
    """`postgres` or `valkey` is None if it was not asked for."""

    def __init__(self, data_dir: Path, *, postgres: bool, valkey: bool) -> None:
        state = state_file.read(data_dir)
        self._data_dir = data_dir
        self.postgres = Postgres(data_dir, _port(state, "postgres_port")) if postgres else None
        port = _port(state, "redis_port")
        self.valkey = Valkey(data_dir, port, protected=True) if valkey else None

    @property
    def _servers(self) -> list[Server]:
        return [server for server in (self.postgres, self.valkey) if server is not None]

    async def start(self) -> None:
        starts = [server.start() for server in self._servers]
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        self.write_state()

    async def stop(self) -> None:
        await asyncio.gather(*(server.stop() for server in self._servers))

    async def wait_failed(self) -> Server:
        """The first server whose process has ended without having been stopped."""
        while True:
            for server in self._servers:
                if server.failed:
                    return server
            await asyncio.sleep(0.1)

    async def supervise(self) -> None:
        """Restart, on its old port, every server that fails. Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(server.supervise())

    def write_state(self, **extra: Any) -> None:
        """Tell other programs where the servers are. `pid` lets them check that we still run."""
        state: dict[str, Any] = {"pid": os.getpid()}
        if self.postgres:
            state |= {"postgres_port": self.postgres.port, "database_url": self.postgres.url}
        if self.valkey:
            state |= {
                "redis_host": self.valkey.host,
                "redis_port": self.valkey.port,
                "redis_password": self.valkey.password,
            }
        state_file.write(self._data_dir, state | extra)


@asynccontextmanager
async def embedded_servers(
    data_dir: Path, *, postgres: bool = True, valkey: bool = True
) -> AsyncIterator[EmbeddedServers]:
    """Run the bundled servers with their data in `data_dir`, and stop them at the end. Call this
    from the main thread (see Launcher.launch). Raises EmbeddedServerError."""
    if sys.platform == "win32":
        raise EmbeddedServerError(
            "the bundled servers need Linux or macOS: use WSL or Docker Compose, "
            "or set DATABASE_URL and REDIS_HOST to servers of your own"
        )
    with _sole_use(data_dir.resolve()):
        servers = EmbeddedServers(data_dir.resolve(), postgres=postgres, valkey=valkey)
        try:
            await servers.start()
            yield servers
        finally:
            await servers.stop()


@contextmanager
def _sole_use(data_dir: Path) -> Iterator[None]:
    """Lock the directory against a second start. The kernel releases the lock when this process
    ends, even by a kill."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot use {data_dir} for the bundled servers ({error.strerror}): "
            "start as the user who owns it, or choose another directory"
        ) from error
    with open(descriptor, "r+", encoding="ascii") as file:
        _lock(file.fileno(), data_dir, file.read().strip())
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _lock(descriptor: int, data_dir: Path, holder: str) -> None:
    try:
        # pylint: disable-next=possibly-used-before-assignment
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise EmbeddedServerError(
            f"{data_dir} is in use by another start of this service (pid {holder or 'unknown'}): "
            "stop that one first, or choose another directory"
        ) from error


def _port(state: dict[str, Any], key: str) -> int | None:
    port = state.get(key)
    return port if isinstance(port, int) and 0 < port < 65536 else None
