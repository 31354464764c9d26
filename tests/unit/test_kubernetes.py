"""deploy/kubernetes holds together. tests/e2e/test_kubernetes.py starts what is in it.

No package has the schemas of CloudNativePG and of RabbitMQ's operators, so these four resources are
not validated here."""

import asyncio
import json
import re
import shutil
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from app import web, worker
from app.consumers.handlers import prefetch
from app.container import POOL_SIZE
from app.queues import CONSUMED
from app.settings import ROOT, Settings
from harness.kubernetes import (
    FOLDER,
    MISSING,
    OVERLAYS,
    Manifest,
    can_build,
    grace_after_signal,
    kustomize,
    manifests,
    mounted_secrets,
    of_kind,
    pod_specs,
    the_container,
    variables_of,
)

pytestmark = pytest.mark.skipif(not can_build(), reason=MISSING)

# The oldest that docs/deployment.md names, and the newest that is known.
KUBERNETES = ("1.30", "1.37")
CHECKOV = "checkov==3.3.30"
KEDA = "@kubernetes-models/keda@2.0.0"
_OF_OPERATORS = ("cnpg.io/", "rabbitmq.com/", "keda.sh/")
# Secrets that operators make: CloudNativePG for the owner, and RabbitMQ's for its default user.
_MADE = {"postgresql-app": {"password"}, "rabbitmq-default-user": {"username", "password"}}
_SERVICE = ("web", "worker", "taskiq-worker", "scheduler", "migrate")
# Of each Container: the pool, and that of the health checks.
_CONNECTIONS = POOL_SIZE + 3


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def large(kind: str, name: str) -> Manifest:
    spec: Manifest = of_kind("large", kind)[name]["spec"]
    return spec


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_each(version: str, overlay: str) -> None:
    for manifest in manifests(overlay):
        if not any(group in manifest["apiVersion"] for group in _OF_OPERATORS):
            kubernetes_validate.validate(manifest, version, strict=True)


def test_every_variable_is_a_setting(overlay: str) -> None:
    known = {name.upper() for name in Settings.model_fields}
    for name in _SERVICE:
        assert variables_of(overlay, the_container(pod_specs(overlay)[name])).keys() <= known


def test_the_pods_are_of_the_restricted_profile(overlay: str) -> None:
    """And nothing of Kubernetes gets into them: neither a token, nor variables like RABBITMQ_PORT,
    which are settings of ours."""
    namespace = of_kind(overlay, "Namespace")["order-service"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for spec in pod_specs(overlay).values():
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert the_container(spec)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_job_alone_migrates(overlay: str) -> None:
    """`command` takes the place of entrypoint.sh, which would migrate; `args` alone would not."""
    for name, spec in pod_specs(overlay).items():
        container = the_container(spec)
        assert "args" not in container
        assert ("alembic" in container["command"]) is (name == "migrate")
    owner = of_kind(overlay, "Cluster")["postgresql"]["spec"]["bootstrap"]["initdb"]["owner"]
    variables = variables_of(overlay, the_container(pod_specs(overlay)["migrate"]))
    assert (variables["DB_HOST"], variables["POSTGRES_USER"]) == ("postgresql-rw", owner)
    assert not variables["DB_POOLER"]


def test_there_is_one_scheduler_at_a_time(overlay: str) -> None:
    spec = of_kind(overlay, "Deployment")["scheduler"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_no_liveness_probe_asks_a_server(overlay: str) -> None:
    specs = pod_specs(overlay)
    for probe in ("startupProbe", "livenessProbe"):
        assert the_container(specs["web"])[probe]["httpGet"]["path"] == "/health/live"
        for name in ("worker", "taskiq-worker", "scheduler"):
            assert probe not in the_container(specs[name])


def test_the_grace_is_enough(overlay: str) -> None:
    specs = pod_specs(overlay)
    delay = float(variables_of(overlay, the_container(specs["web"]))["SHUTDOWN_DELAY"])
    # pylint: disable=protected-access
    assert grace_after_signal(specs["web"]) > delay + web._SHUTDOWN_SECONDS
    assert grace_after_signal(specs["worker"]) > worker._LONGEST_STOP
    waits = re.search(r"--wait-tasks-timeout=(\d+)", str(specs["taskiq-worker"]))
    assert waits and grace_after_signal(specs["taskiq-worker"]) > int(waits[1])


def test_the_public_name_is_served(overlay: str) -> None:
    ingress = of_kind(overlay, "Ingress")["web"]["spec"]
    variables = variables_of(overlay, the_container(pod_specs(overlay)["web"]))
    [host] = [rule["host"] for rule in ingress["rules"]]
    assert host in variables["ALLOWED_HOSTS"].split(",")
    assert ingress["tls"][0]["hosts"] == [host]


def test_selectors_find_pods_and_ports(overlay: str) -> None:
    templates = [
        manifest["spec"]["template"]
        for manifest in of_kind(overlay, "Deployment", "StatefulSet").values()
    ]
    for service in of_kind(overlay, "Service").values():
        [found] = [
            template
            for template in templates
            if service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        ]
        ports = {port["name"] for port in the_container(found["spec"])["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    own = "order-service"
    for manifest in of_kind(overlay, "PodDisruptionBudget", "NetworkPolicy").values():
        spec = manifest["spec"]
        labels = spec.get("selector", spec.get("podSelector", {})).get("matchLabels", {})
        if labels.get("app.kubernetes.io/name") == own:
            assert any(labels.items() <= t["metadata"]["labels"].items() for t in templates)


def test_secrets_are_made_and_none_is_in_the_files(overlay: str, tmp_path: Path) -> None:
    assert not of_kind(overlay, "Secret")
    own = shutil.ignore_patterns("*.secret")
    folder = shutil.copytree(FOLDER / "secrets", tmp_path / "secrets", ignore=own)
    without = kustomize(folder)
    assert without.returncode and ".secret: no such file" in without.stderr
    for name in ("postgresql", "valkey", "api-key"):
        (folder / f"{name}.secret").write_text("abc")
    ended = kustomize(folder)
    assert ended.returncode == 0, ended.stderr
    made = {m["metadata"]["name"]: set(m["data"]) for m in yaml.safe_load_all(ended.stdout)}
    known = _MADE | made
    for spec in pod_specs(overlay).values():
        for _, name, files in mounted_secrets(spec):
            assert name in known
            assert set(files or ()) <= known[name]
    [role] = of_kind(overlay, "Cluster")["postgresql"]["spec"]["managed"]["roles"]
    assert made[role["passwordSecret"]["name"]] == {"username", "password"}


def test_every_consumed_queue_scales_the_worker() -> None:
    triggers = [trigger["metadata"] for trigger in large("ScaledObject", "worker")["triggers"]]
    assert {trigger["queueName"] for trigger in triggers} == set(CONSUMED)
    held = prefetch(Settings(_env_file=None).worker_concurrency)
    for trigger in triggers:
        assert (trigger["protocol"], trigger["mode"]) == ("http", "QueueLength")
        # Or what a worker holds anyway would call for another one.
        assert int(trigger["value"]) > held[trigger["queueName"]]


def test_autoscalers_and_manifests_do_not_both_say_how_many() -> None:
    """Each `kubectl apply` would set them back."""
    deployments = of_kind("large", "Deployment")
    for scaler in ("HorizontalPodAutoscaler", "ScaledObject"):
        for spec in (manifest["spec"] for manifest in of_kind("large", scaler).values()):
            assert "replicas" not in deployments[spec["scaleTargetRef"]["name"]]["spec"]


def test_postgresql_has_connections_for_all() -> None:
    pooler = large("Pooler", "postgresql-pooler")
    parameters = pooler["pgbouncer"]["parameters"]
    most = large("HorizontalPodAutoscaler", "web")["maxReplicas"]
    most += large("ScaledObject", "worker")["maxReplicaCount"]
    most += large("Deployment", "taskiq-worker")["replicas"]
    # The scheduler, and one more of each while a new version comes.
    assert (most + 4) * _CONNECTIONS < int(parameters["max_client_conn"])
    cluster = large("Cluster", "postgresql")["postgresql"]
    pooled = pooler["instances"] * int(parameters["default_pool_size"])
    assert pooled < int(cluster["parameters"]["max_connections"]) / 2
    variables = variables_of("large", the_container(pod_specs("large")["web"]))
    assert (variables["DB_HOST"], variables["DB_POOLER"]) == ("postgresql-pooler", "prepared")
    # Without a pooler, PostgreSQL's default is 100.
    assert len(("web", "worker", "taskiq-worker")) * 2 * _CONNECTIONS < 100


def test_the_requests_hold_what_was_measured(overlay: str) -> None:
    """In MB by docs/performance.md, in MiB by the manifests."""
    page = (ROOT / "docs" / "performance.md").read_text("utf-8")
    found = re.findall(r"Resident memory after load, ([^|]+) \|.* \((?:\S+)\.\.(\S+)\) MB", page)
    measured = {name: float(most) for name, most in found}
    needed = {
        "web": measured["web"],
        "worker": measured["worker"],
        "scheduler": measured["scheduler"],
        "taskiq-worker": measured["TaskIQ worker"] + measured["TaskIQ worker, child"],
    }
    for name, megabytes in needed.items():
        request = the_container(pod_specs(overlay)[name])["resources"]["requests"]["memory"]
        assert int(request.removesuffix("Mi")) * 1.048576 > megabytes


async def _run(*command: str | Path, directory: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.long
async def test_checkov_finds_nothing(overlay: str, tmp_path: Path) -> None:
    """Its dependencies are not ours, so it gets an environment of its own. What is left out is in
    annotations, with the reason."""
    built = tmp_path / f"{overlay}.yaml"
    built.write_text(kustomize(FOLDER / "overlays" / overlay).stdout)
    words = ("uvx", CHECKOV, "--framework", "kubernetes", "--compact", "--quiet")
    output = await _run(*words, "--skip-download", "-f", built, directory=tmp_path)
    assert "Failed checks: 0" in output, output


_VALIDATE = """\
import { readFileSync } from "node:fs";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
for (const manifest of JSON.parse(readFileSync("manifests.json")))
    new keda[manifest.kind](manifest).validate();
console.log("valid");
"""


@pytest.mark.long
async def test_keda_accepts_the_scaler(tmp_path: Path) -> None:
    found = of_kind("large", "ScaledObject", "TriggerAuthentication")
    (tmp_path / "manifests.json").write_text(json.dumps([*found.values()]))
    (tmp_path / "validate.mjs").write_text(_VALIDATE)
    (tmp_path / "package.json").write_text("{}")
    await _run("npm", "install", "--ignore-scripts", "--no-audit", KEDA, directory=tmp_path)
    assert "valid" in await _run("node", "validate.mjs", directory=tmp_path)
