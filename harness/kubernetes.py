"""deploy/kubernetes: its manifests as kubectl builds them, and its pods as processes here."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml  # type: ignore[import-untyped]

from app.embedded.ports import LOOPBACK, free_port
from app.settings import ROOT
from harness.processes import Process, environment
from harness.service import PYTHON

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("small", "large")
# No package of Debian 12 has one that is new enough.
MISSING = (
    "deploy/kubernetes IS NOT TESTED: that needs kubectl 1.27 or later, and there is none here"
)
# What kubelet sends as the Host of a probe: the address of a pod.
_POD = "10.244.1.7:8000"

Manifest = dict[str, Any]
# Of each Secret, its keys and their values.
Secrets = Mapping[str, Mapping[str, str]]


def can_build() -> bool:
    if not shutil.which("kubectl"):
        return False
    version = json.loads(_kubectl("version", "--client", "-o", "json").stdout)["clientVersion"]
    return int(re.sub(r"\D", "", version["minor"])) >= 27


def kustomize(folder: Path) -> "subprocess.CompletedProcess[str]":
    return _kubectl("kustomize", folder)


def _kubectl(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False)


@cache
def manifests(overlay: str) -> tuple[Manifest, ...]:
    ended = kustomize(FOLDER / "overlays" / overlay)
    assert ended.returncode == 0, ended.stderr
    return tuple(yaml.safe_load_all(ended.stdout))


def of_kind(overlay: str, *kinds: str) -> dict[str, Manifest]:
    """Those of these kinds, by their names."""
    return {
        found["metadata"]["name"]: found for found in manifests(overlay) if found["kind"] in kinds
    }


def pod_specs(overlay: str) -> dict[str, Manifest]:
    found = of_kind(overlay, "Deployment", "Job", "StatefulSet")
    return {name: manifest["spec"]["template"]["spec"] for name, manifest in found.items()}


def the_container(spec: Manifest) -> Manifest:
    [container] = spec["containers"]
    assert "initContainers" not in spec
    return dict(container)


def variables_of(overlay: str, container: Manifest) -> dict[str, str]:
    config_maps = of_kind(overlay, "ConfigMap")
    variables: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        variables |= config_maps[source["configMapRef"]["name"]]["data"]
    return variables | {entry["name"]: entry["value"] for entry in container.get("env", ())}


def mounted_secrets(spec: Manifest) -> Iterator[tuple[str, str, Mapping[str, str] | None]]:
    """The path of each mount, the Secret, and the file of each of its keys; None for all keys."""
    volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
    for mount in the_container(spec)["volumeMounts"]:
        volume = volumes.get(mount["name"], {})  # not there: of a StatefulSet
        sources = [source["secret"] for source in volume.get("projected", {}).get("sources", ())]
        for source in [*sources, *([volume["secret"]] if "secret" in volume else [])]:
            items = source.get("items")
            files = {item["key"]: item["path"] for item in items} if items else None
            yield mount["mountPath"], source.get("secretName") or source["name"], files


def grace_after_signal(spec: Manifest) -> float:
    """Seconds from the SIGTERM to the SIGKILL."""
    hooks = the_container(spec).get("lifecycle", {})
    slept: float = hooks.get("preStop", {}).get("sleep", {}).get("seconds", 0)
    return float(spec["terminationGracePeriodSeconds"]) - slept


class Pod:
    """The container of a pod as a process: with the command, the variables, the secrets and the
    probes of its manifest. `addresses` are the variables that say where the servers are here, and
    `changes` the words of commands that are different here."""

    def __init__(
        self,
        name: str,
        directory: Path,
        tree: Path,
        secrets: Secrets,
        addresses: Mapping[str, str] | None = None,
        changes: Mapping[str, str] | None = None,
    ) -> None:
        overlay = OVERLAYS[0]
        self.spec = pod_specs(overlay)[name]
        self.container = the_container(self.spec)
        self.port = free_port()
        root = directory / name
        self._here = {
            **{f"{path}/": f"{root}{path}/" for path in ("/tmp", "/run/secrets")},
            "/srv": str(tree),
            **(changes or {}),
        }
        self.tmp = root / "tmp"
        self.tmp.mkdir(parents=True)
        self._mount(secrets)
        self._variables = {
            **{k: self._local(v) for k, v in variables_of(overlay, self.container).items()},
            **(addresses or {}),
            "HOST": LOOPBACK,
            "PORT": str(self.port),
            "PATH": f"{PYTHON.parent}:{os.environ['PATH']}",
        }
        self.process = Process(
            name,
            [self._local(word) for word in self.container["command"]],
            self._variables,
            directory=Path(self._local(self.container.get("workingDir", "/srv"))),
            log=root / "log",
        )

    def _local(self, text: str) -> str:
        pattern = "|".join(map(re.escape, self._here))
        return re.sub(pattern, lambda found: self._here[found[0]], text)

    def _mount(self, secrets: Secrets) -> None:
        for path, name, files in mounted_secrets(self.spec):
            values = secrets[name]
            directory = Path(self._local(f"{path}/"))
            directory.mkdir(parents=True, exist_ok=True)
            for key, file in (files or {key: key for key in values}).items():
                (directory / file).write_text(values[key])

    async def stop(self) -> int:
        """As kubelet does after preStop. Fails when it would kill."""
        return await self.process.stop(seconds=grace_after_signal(self.spec))

    async def succeeds(self, name: str) -> bool:
        """Whether this probe does now, asked as kubelet asks."""
        probe = self.container[name]
        seconds = probe.get("timeoutSeconds", 1)
        if "httpGet" in probe:
            return await self._answers(probe["httpGet"], seconds)
        return await self._exits(probe["exec"]["command"], seconds)

    async def _answers(self, get: Mapping[str, Any], seconds: float) -> bool:
        ports = {port["name"] for port in self.container["ports"]}
        assert get["port"] in ports and "httpHeaders" not in get
        url = f"http://{LOOPBACK}:{self.port}{get['path']}"
        async with httpx.AsyncClient(trust_env=False, timeout=seconds) as client:
            try:
                response = await client.get(url, headers={"Host": _POD})
            except httpx.TransportError:
                return False
        return 200 <= response.status_code < 400

    async def _exits(self, command: list[str], seconds: float) -> bool:
        words = [self._local(word) for word in command]
        async with asyncio.timeout(seconds):
            process = await asyncio.create_subprocess_exec(
                *words, env=environment(self._variables), stderr=asyncio.subprocess.DEVNULL
            )
            return await process.wait() == 0
