"""What each alert tells of, caused, and seen by a real Prometheus. How long an alert waits before
it comes is proven with promtool in tests/unit/test_monitoring.py."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from app.queues import Queue
from harness.databases import connected
from harness.processes import Process
from harness.prometheus import Prometheus
from harness.rabbitmq import RabbitMQ, free_ports
from harness.tree import copy_tree, edit
from harness.waiting import eventually
from tests.faults.support.system import System, send_all

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = [pytest.mark.fault, pytest.mark.parametrize("transport", ["rabbitmq"])]

_SAYS = {
    "worker": '"message": "consuming"',
    "taskiq_worker": "Listening started",
    "scheduler": "Startup completed",
}


@pytest.fixture(name="tree", scope="session")
def _tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its scheduler looks at the servers twice a second, not every five seconds, and its worker
    gives a message up after 3 s, not 10."""
    tree = copy_tree(tmp_path_factory.mktemp("watchful"))
    edit(tree, "app/container.py", "return [(look, 5)]", "return [(look, 0.5)]")
    edit(tree, "app/consumers/inbox.py", "WORK_SECONDS = 10", "WORK_SECONDS = 3")
    return tree


class Watched:
    """Processes of the service, each of which Prometheus scrapes."""

    def __init__(self, system: System, directory: Path, kinds: tuple[str, ...]) -> None:
        ports = free_ports(len(_SAYS))
        self._system = system
        self.processes: dict[str, Process] = {
            kind: system.another(f"{kind}-watched", kind, METRICS_PORT=str(port))
            for kind, port in zip(_SAYS, ports, strict=True)
        }
        targets = {kind: port for kind, port in zip(_SAYS, ports, strict=True) if kind in kinds}
        self.prometheus = Prometheus(directory, {"web": system.port, **targets})

    async def start(self, *kinds: str) -> None:
        for kind in kinds:
            self.processes[kind].start()
        for kind in kinds:
            await self.processes[kind].says(_SAYS[kind], seconds=60)


@asynccontextmanager
async def _watched(system: System, directory: Path, *kinds: str) -> AsyncIterator[Watched]:
    """The web process and these, running, with nothing else to raise an alert."""
    without = set() if "taskiq_worker" in kinds else {"NobodyConsumes"}
    watched = Watched(system, directory, kinds)
    try:
        await asyncio.gather(system.start("web"), watched.start(*kinds), watched.prometheus.start())

        async def is_quiet() -> bool:
            return await watched.prometheus.raised() == without

        await eventually(is_quiet, 60)
        yield watched
    finally:
        watched.prometheus.close()


async def test_the_worker_is_away_while_orders_come(system: System, tmp_path: Path) -> None:
    async with (
        system.shop() as shop,
        system.queues() as queues,
        _watched(system, tmp_path, *_SAYS) as watched,
    ):
        product_id = await shop.product(stock=1000)
        await queues.send(Queue.ORDER, b"{", "poison")
        await watched.prometheus.raises("DeadLetters", queue="order")
        assert await watched.processes["worker"].stop() == 0
        await watched.prometheus.raises("ProcessAway", job="worker")
        await watched.prometheus.raises("NobodyConsumes", queue="order")
        orders = {f"order-{n}": shop.order_body((product_id, 1)) for n in range(150)}
        await send_all(queues, Queue.ORDER, orders)
        await watched.prometheus.raises("QueueGrows", queue="order")
        await watched.start("worker")
        for alert in ("ProcessAway", "NobodyConsumes", "QueueGrows"):
            await watched.prometheus.clears(alert)
        assert await watched.prometheus.raised() == {"DeadLetters"}
        await system.script("-m", "app", "dead", "drop", "order", "all")
        await watched.prometheus.clears("DeadLetters")


async def test_rabbitmq_is_away_while_a_report_is_built(
    system: System, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    async with _watched(system, tmp_path, *_SAYS) as watched, system.client() as client:
        rabbitmq.kill()
        try:
            await watched.prometheus.raises("PartNotWell", part="rabbitmq")
            assert (await client.post("/report")).status_code == 200
            await system.execute("UPDATE outbox SET created_at = now() - interval '5 minutes'")
            await watched.prometheus.raises("OutboxStuck")
        finally:
            await rabbitmq.start()
        for alert in ("PartNotWell", "OutboxStuck"):
            await watched.prometheus.clears(alert)


async def test_a_night_without_a_taskiq_worker(system: System, tmp_path: Path) -> None:
    async with _watched(system, tmp_path, "worker", "scheduler") as watched:
        await system.execute("UPDATE installation SET started_at = now() - interval '1 day'")
        await watched.prometheus.raises("NightNotBuilt")
        await watched.start("taskiq_worker")
        await watched.prometheus.clears("NightNotBuilt")


async def test_postgresql_is_frozen(system: System, tmp_path: Path) -> None:
    async with (
        system.shop() as shop,
        system.queues() as queues,
        _watched(system, tmp_path, "worker", "scheduler") as watched,
        system.client() as client,
    ):
        product_id = await shop.product()

        async def is_held() -> bool:
            held = "max by (queue) (messages_held_oldest_seconds) > 0"
            return {"queue": "order"} in await watched.prometheus.ask(held)

        system.postgres.pause()
        try:
            await queues.send(Queue.ORDER, shop.order_body((product_id, 1)), "order")
            await watched.prometheus.raises("PartNotWell", part="postgresql")
            await _asked_until(watched.prometheus, "Errors", client, "/orders", 503)

            await eventually(is_held, 60)
        finally:
            system.postgres.resume()
        await system.settled(1)
        await watched.prometheus.clears("PartNotWell")

        async def is_free() -> bool:
            return not await is_held()

        await eventually(is_free, 60)


async def test_a_table_is_locked(system: System, tmp_path: Path) -> None:
    async with (
        _watched(system, tmp_path, "worker", "scheduler") as watched,
        connected(system.database_url) as session,
        system.client() as client,
    ):
        async with session.transaction():
            await session.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
            await _asked_until(watched.prometheus, "Slow", client, "/users", 503)


async def _asked_until(
    prometheus: Prometheus, alert: str, client: httpx.AsyncClient, path: str, status: int
) -> None:
    """Rates need requests on both sides of a scrape."""

    async def ask() -> None:
        while True:
            response = await client.get(path)
            assert response.status_code == status, response.text

    asking = asyncio.create_task(ask())
    raising = asyncio.create_task(prometheus.raises(alert))
    await asyncio.wait({asking, raising}, return_when=asyncio.FIRST_COMPLETED)
    asking.cancel()
    raising.cancel()
    for ended in await asyncio.gather(asking, raising, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


async def test_the_scheduler_is_away(system: System, tmp_path: Path) -> None:
    async with _watched(system, tmp_path, "worker", "scheduler") as watched:
        watched.processes["scheduler"].kill()
        await watched.prometheus.raises("NobodyLooks")
        await watched.prometheus.raises("ProcessAway", job="scheduler")


async def test_a_full_disk(system: System, small_disk: Path, tmp_path: Path) -> None:
    [port] = free_ports(1)
    scheduler = system.another(
        "scheduler-small", "scheduler", METRICS_PORT=str(port), DATA_DIR=str(small_disk)
    )
    prometheus = Prometheus(tmp_path, {"scheduler": port})
    scheduler.start()
    await asyncio.gather(scheduler.says(_SAYS["scheduler"], seconds=60), prometheus.start())
    try:
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(1_000_000))
        await prometheus.raises("DiskFull")
        ballast.unlink()
        await prometheus.clears("DiskFull")
    finally:
        prometheus.close()
