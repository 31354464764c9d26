"""Each process shows its metrics, and none is in the way of another."""

import re
from collections.abc import Iterable

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.dependencies import Dependencies
from harness.processes import Process
from harness.queues import queue_client
from harness.rabbitmq import free_ports
from harness.service import COMMANDS, Service
from harness.waiting import eventually

_PORT = re.compile(r'"port": (\d+).*"message": "metrics"')


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


def _children(processes: Service, port: int, names: Iterable[str]) -> dict[str, Process]:
    return {
        name: processes.process(name, *COMMANDS[name.partition("-")[0]], METRICS_PORT=str(port))
        for name in names
    }


async def _scrape(process: Process) -> dict[str, float]:
    """All samples, by their names and the values of their labels, which Prometheus sorts."""
    found = _PORT.findall(process.output)
    assert len(found) == 1, process.output
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"http://127.0.0.1:{found[0]}/metrics")).text
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_each_process_has_a_port_of_its_own(
    processes: Service, dependencies: Dependencies
) -> None:
    """All have the same setting. What only servers know, the scheduler says."""
    [port] = free_ports(1)
    names = ("worker", "worker-2", "taskiq_worker", "scheduler")
    children = _children(processes, port, names)
    try:
        for child in children.values():
            child.start()
        await children["worker"].says('"message": "consuming"', seconds=60)
        await children["worker-2"].says('"message": "consuming"', seconds=60)
        await children["taskiq_worker"].says("Listening started", seconds=60)
        await children["scheduler"].says("Startup completed", seconds=60)
        ports = [_PORT.findall(child.output)[0] for child in children.values()]
        assert len(set(ports)) == len(names) and str(port) in ports
        async with queue_client(dependencies) as queues:
            await queues.send("product", {"name": "Tea", "price": 1, "stock_quantity": 1}, "tea")

        async def is_counted() -> bool:
            workers = [await _scrape(children[name]) for name in ("worker", "worker-2")]
            return sum(worker.get("messages_total applied product", 0) for worker in workers) == 1

        async def is_watched() -> bool:
            seen = await _scrape(children["scheduler"])
            return (
                seen.get("queue_consumers product") == 2 and seen.get("queue_consumers taskiq") == 1
            )

        await eventually(is_counted)
        await eventually(is_watched)
        for name in ("worker", "taskiq_worker"):
            seen = await _scrape(children[name])
            assert "outbox_messages" not in seen and seen["database_connections_most"] == 10

        async def is_sent() -> bool:  # the report of the night that the scheduler caught up on
            return (await _scrape(children["scheduler"]))["outbox_messages"] == 0

        await eventually(is_sent)
        assert await children["worker"].stop() == 0, children["worker"].output
        assert await children["taskiq_worker"].stop() == 0, children["taskiq_worker"].output
    finally:
        for child in children.values():
            child.kill()


async def test_without_the_setting_no_port_is_opened(processes: Service) -> None:
    await processes.start("worker")
    listening = [
        connection
        for connection in psutil.Process(processes.worker.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert not listening


async def test_a_process_that_finds_no_port_works_all_the_same(processes: Service) -> None:
    """An address that is no address of this machine."""
    worker = processes.process(
        "worker", *COMMANDS["worker"], METRICS_PORT="9464", METRICS_HOST="192.0.2.1"
    )
    worker.start()
    try:
        await worker.says('"message": "consuming"', seconds=60)
        assert worker.output.count("metrics are not shown") == 1
        assert await worker.stop() == 0
    finally:
        worker.kill()


async def test_the_one_process_shows_everything(service: Service) -> None:
    async def is_watched() -> bool:
        text = (await service.api.get("/metrics")).text
        return all(
            name in text
            for name in ('queue_messages{queue="order"} 0.0', "outbox_messages 0.0", "disk_free")
        )

    await eventually(is_watched)
