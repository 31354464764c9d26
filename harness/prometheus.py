"""A private Prometheus: Debian's server, with a port and data of its own."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml  # type: ignore[import-untyped]

from app.embedded.ports import LOOPBACK, free_port
from app.settings import ROOT
from harness.processes import Process
from harness.waiting import eventually

MISSING = "Prometheus is missing: run `apt-get install -y prometheus`, or `tests/run`"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"


class Prometheus:
    """Scrapes each of the targets, ports by the names of their jobs, once a second."""

    def __init__(self, directory: Path, targets: Mapping[str, int]) -> None:
        self._port = free_port()
        self._targets = targets
        self._config = directory / "prometheus.yml"
        self._process = Process(
            "Prometheus",
            [
                "prometheus",
                f"--config.file={self._config}",
                f"--storage.tsdb.path={directory / 'prometheus'}",
                f"--web.listen-address={LOOPBACK}:{self._port}",
            ],
            {},
            directory=directory,
            log=directory / "prometheus.log",
        )

    async def start(self) -> None:
        assert shutil.which("prometheus"), MISSING
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"{LOOPBACK}:{port}"]}]}
                for job, port in self._targets.items()
            ],
        }
        self._config.write_text(json.dumps(config))  # JSON is YAML
        self._process.start()
        await self._process.says("Server is ready to receive web requests")

    def close(self) -> None:
        self._process.kill()

    async def ask(self, expression: str) -> list[dict[str, str]]:
        """The labels of all that it finds."""
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://{LOOPBACK}:{self._port}/api/v1/query"
            answer = await client.get(url, params={"query": expression})
        found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return [dict(series["metric"]) for series in found]

    async def raised(self) -> set[str]:
        """The alerts that would come if what is now stayed for as long as they wait."""
        return {name for name, expression in _expressions().items() if await self.ask(expression)}

    async def raises(self, alert: str, **labels: str) -> None:
        """Waits until this alert is among them, for these labels."""

        async def is_raised() -> bool:
            found = await self.ask(_expressions()[alert])
            return any(labels.items() <= series.items() for series in found)

        await eventually(is_raised, 60, lambda: f"{alert} is not raised")

    async def clears(self, alert: str) -> None:
        async def is_cleared() -> bool:
            return not await self.ask(_expressions()[alert])

        await eventually(is_cleared, 60, lambda: f"{alert} stays")


def _expressions() -> dict[str, str]:
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
