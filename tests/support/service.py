"""The service as its users start it: real processes, in a copy of its files."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from app.embedded.ports import LOOPBACK, free_port
from tests.support.processes import Process, finish, run
from tests.support.waiting import eventually

PYTHON = Path(sys.executable)
_TASKIQ = PYTHON.with_name("taskiq")
COMMANDS: dict[str, Sequence[str | Path]] = {
    "web": [PYTHON, "main.py"],
    "worker": [PYTHON, "-m", "app", "worker"],
    "scheduler": [_TASKIQ, "scheduler", "app.scheduler:scheduler", "--update-interval", "1"],
    "taskiq_worker": [_TASKIQ, "worker", "app.scheduler:broker", "--workers", "1"],
}
# What a process says when it has begun to work. `web` is asked over HTTP.
_READY = {
    "worker": ['"message": "consuming"'],
    "scheduler": ["Startup completed"],
    "taskiq_worker": ["Listening started"],
}


class Service:
    """`variables` are all of its settings; without a database among them it is the embedded mode."""

    def __init__(self, tree: Path, directory: Path, variables: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.tree = tree
        self.directory = directory
        self._variables = {"HOST": LOOPBACK, "PORT": str(self.port), **variables}
        if "DATABASE_URL" in variables:  # else the scripts find the service by its state file
            self._variables["API_URL"] = self.url
        self.processes = {name: self.process(name, *COMMANDS[name]) for name in COMMANDS}
        self.web, self.worker, self.scheduler, self.taskiq_worker = self.processes.values()

    def process(self, name: str, *command: str | Path, **variables: str) -> Process:
        """One more process with the service's settings."""
        return Process(
            name,
            command,
            {**self._variables, **variables},
            directory=self.tree,
            log=self.directory / f"{name}.log",
        )

    async def start(self, *names: str) -> None:
        for name in names:
            self.processes[name].start()
        for name in names:
            await self._ready(name)

    async def _ready(self, name: str) -> None:
        if name in _READY:
            await self.processes[name].says(*_READY[name], seconds=60)
            return
        async with self.client() as client:
            await eventually(lambda: _answers(client, self.web), 60, lambda: self.web.output)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30)

    async def script(self, *command: str, seconds: float = 120, **variables: str) -> str:
        """Run a Python program of the tree to its good end; its output."""
        name = command[0].replace("/", "_")
        return await run(self.process(name, PYTHON, *command, **variables), seconds)

    async def close(self) -> None:
        await finish(list(self.processes.values()))


async def _answers(client: httpx.AsyncClient, web: Process) -> bool:
    assert web.running, web.output
    try:
        return (await client.get("/health/ready")).status_code == 200
    except httpx.TransportError:
        return False
