"""The service as its users start it: real processes, in a copy of its files."""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import httpx

from app.embedded.ports import LOOPBACK, free_port
from harness.processes import Process, environment, finish
from harness.waiting import eventually

PYTHON = Path(sys.executable)
_TASKIQ = PYTHON.with_name("taskiq")
COMMANDS: dict[str, Sequence[str | Path]] = {
    "web": [PYTHON, "main.py"],
    "worker": [PYTHON, "-m", "app", "worker"],
    "scheduler": [_TASKIQ, "scheduler", "app.scheduler:scheduler", "--update-interval", "1"],
    "taskiq_worker": [_TASKIQ, "worker", "app.scheduler:broker", "--workers", "1"],
}
# What a process writes once it works; `web` is asked over HTTP instead.
_READY = {
    "worker": ['"message": "consuming"'],
    "scheduler": ["Startup completed"],
    "taskiq_worker": ["Listening started"],
}


# What /health/ready says of the parts.
ALL_OK = {"postgresql": "ok", "redis": "ok", "rabbitmq": "ok"}


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Service:
    """`variables` are the settings; without DATABASE_URL, `web` runs in one-process mode."""

    def __init__(self, tree: Path, directory: Path, variables: Mapping[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://localhost:{self.port}"
        self.tree = tree
        self.directory = directory
        self.variables = {"HOST": LOOPBACK, "PORT": str(self.port), **variables}
        if "DATABASE_URL" in variables:  # else the scripts find the service by its state file
            self.variables["API_URL"] = self.url
        self.processes = {name: self.process(name, *words) for name, words in COMMANDS.items()}
        self.web, self.worker, self.scheduler, self.taskiq_worker = self.processes.values()

    @cached_property
    def api(self) -> httpx.AsyncClient:
        return self.client()

    def process(self, name: str, *command: str | Path, **variables: str) -> Process:
        """One more process with the service's settings."""
        return Process(
            name,
            command,
            {**self.variables, **variables},
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
            await eventually(lambda: _is_ready(client, self.web), 60, lambda: self.web.output)

    def client(self) -> httpx.AsyncClient:
        """One more client, for tests that need connections of their own."""
        return httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30)

    async def run(
        self,
        *command: str | Path,
        variables: Mapping[str, str] | None = None,
        seconds: float = 120,
    ) -> Ended:
        """Run a Python program of the tree to its end."""
        process = await asyncio.create_subprocess_exec(
            *(PYTHON, *command),
            cwd=self.tree,
            env=environment({**self.variables, "COLUMNS": "160", **(variables or {})}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    async def script(self, *command: str | Path) -> str:
        """Run a Python program of the tree, which must exit with 0, and return its output."""
        ended = await self.run(*command)
        assert ended.code == 0, ended.out + ended.err
        return ended.out

    async def every(self, name: str) -> list[dict[str, Any]]:
        """All users, products or orders."""
        rows: list[dict[str, Any]] = []
        while page := await self._page(name, len(rows) // 100 + 1):
            rows += page
            if len(page) < 100:
                break
        return rows

    async def _page(self, name: str, number: int) -> list[dict[str, Any]]:
        response = await self.api.get(f"/{name}?count=100&page={number}")
        return list(response.raise_for_status().json()[name])

    async def total(self, name: str) -> int:
        return int((await self.api.get(f"/{name}")).raise_for_status().json()["total"])

    async def close(self) -> None:
        if "api" in vars(self):
            await self.api.aclose()
        await finish(list(self.processes.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _is_ready(client: httpx.AsyncClient, web: Process) -> bool:
    assert web.running, web.output
    try:
        return (await client.get("/health/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def becomes_well(client: httpx.AsyncClient) -> None:
    """All parts answer. On a busy machine one may answer late, and be degraded for a moment."""

    async def is_well() -> bool:
        return bool((await client.get("/health/ready")).json()["parts"] == ALL_OK)

    await eventually(is_well)


@asynccontextmanager
async def one_command(tree: Path, directory: Path, **variables: str) -> AsyncIterator[Service]:
    """`python main.py`, started and ready, with nothing configured but `variables`."""
    variables = {"DATA_DIR": str(directory / "data"), **variables}
    async with Service(tree, directory, variables) as service:
        await service.start("web")
        yield service
