"""The one-process mode, `python main.py` with nothing configured, and its two bundled servers."""

import asyncio
import signal
from pathlib import Path

from app import state_file
from app.embedded import Postgres, Valkey
from app.embedded.processes import processes_in, signal_all
from harness.dependencies import Dependencies
from harness.service import Service
from tests.faults.soak.deployment import Deployment, Strike

_PROGRAMS = {Postgres.name: ("postgres", "postgres"), Valkey.name: ("valkey", "valkey-server")}


class OneProcess(Deployment):
    exclusive = "service"

    def __init__(self, tree: Path, directory: Path) -> None:
        self._data = directory / "data"
        variables = {"DATA_DIR": str(self._data), "LOG_FORMAT": "json"}
        super().__init__(Service(tree, directory, variables))
        self.strikes += [
            Strike("kill -9 service", self.exclusive, self._kill),
            Strike("freeze service", self.exclusive, self._freeze),
            *(self._killing(name, signal.SIGKILL, f"kill -9 {name}") for name in _PROGRAMS),
            *(self._freezing(name) for name in _PROGRAMS),
            self._killing(Postgres.name, signal.SIGQUIT, "immediate stop of PostgreSQL"),
        ]

    @property
    def dependencies(self) -> Dependencies:
        state = state_file.read(self._data)
        return Dependencies(state["database_url"], Valkey(self._data, state["redis_port"]))

    @property
    def admin_url(self) -> str:
        return Postgres(self._data, state_file.read(self._data)["postgres_port"]).admin_url

    @property
    def postgres_log(self) -> Path:
        return self._data / "postgres.log"

    async def start(self) -> None:
        await self.service.start("web")

    async def watch(self) -> None:
        """Nothing to do: the service restarts its servers, and never ends by itself."""
        await asyncio.Event().wait()

    async def repair(self) -> None:
        for name in _PROGRAMS:
            signal_all(self._pids(name), signal.SIGCONT)
        if not self.service.web.running:
            await self.start()
        self.service.web.resume()

    async def stop_consuming(self) -> None:
        """Not needed: streams count what is in flight as waiting. Not possible either: the queues
        live only as long as the process."""

    async def close(self) -> None:
        await self.service.close()

    def _pids(self, server: str) -> list[int]:
        directory, program = _PROGRAMS[server]
        return sorted(processes_in(self._data / directory, program))

    async def _kill(self, seconds: float) -> None:
        self.service.web.kill()
        await asyncio.sleep(seconds)
        await self.start()

    async def _freeze(self, seconds: float) -> None:
        self.service.web.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            self.service.web.resume()

    def _killing(self, server: str, signum: signal.Signals, name: str) -> Strike:
        async def act(seconds: float) -> None:
            signal_all(self._pids(server)[: 1 if signum is signal.SIGQUIT else None], signum)
            await asyncio.sleep(seconds)

        return Strike(name, server, act)

    def _freezing(self, server: str) -> Strike:
        async def act(seconds: float) -> None:
            frozen = self._pids(server)
            signal_all(frozen, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                signal_all(frozen, signal.SIGCONT)

        return Strike(f"freeze {server}", server, act)
