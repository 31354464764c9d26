"""RabbitMQ as a cluster with quorum queues: a node dies, a node is cut off from the others; and a
worker that dies again and again with messages in its hands."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import pytest

from app.embedded import Valkey
from app.queues import Queue
from harness.dependencies import Dependencies
from harness.queues import queue_client
from harness.rabbitmq import USER, RabbitMQ, RabbitMQAccess
from harness.rabbitmq_cluster import Cluster, Node, cluster_in
from harness.waiting import eventually
from tests.faults.invariants import check_exactly_once
from tests.faults.proxy import Balancer
from tests.faults.support.system import System, send_all

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = [pytest.mark.fault, pytest.mark.long]

_CONSUMED_AGAIN = 40  # seconds; docs/reliability.md has what was measured
_CRASHES = 25


class Sender:
    """Sends an order now and then, each until RabbitMQ has confirmed it. `sent` are those that it
    has, and when the sending began."""

    def __init__(self, dependencies: Dependencies, body: Any) -> None:
        self._dependencies = dependencies
        self._body = body
        self.sent: dict[str, float] = {}
        self._stopping = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stopping:
            name, began = uuid4().hex, time.monotonic()
            while not await self._is_sent(name):
                await asyncio.sleep(0.2)
            self.sent[name] = began
            await asyncio.sleep(0.1)

    async def _is_sent(self, name: str) -> bool:
        sending = asyncio.create_task(self._send(name))
        await asyncio.wait({sending}, timeout=5)
        # The client library raises anything when its connection dies, a bare CancelledError too.
        failed = not sending.done() or sending.cancelled() or sending.exception()
        sending.cancel()
        return not failed

    async def _send(self, name: str) -> None:
        async with queue_client(self._dependencies) as queues:
            await queues.send(Queue.ORDER, self._body, name)

    async def stop(self) -> None:
        """What is in the middle of it is sent first: it may have been taken already."""
        self._stopping = True
        await self._task


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    async with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
async def balancer(cluster: Cluster) -> AsyncIterator[Balancer]:
    """What the service knows of the cluster: one address."""
    balancer = Balancer(*((node.host, node.port) for node in cluster.nodes))
    await balancer.start()
    yield balancer
    await balancer.close()


@pytest.fixture
def durable_dependencies(durable_url: str, valkey: Valkey, balancer: Balancer) -> Dependencies:
    return Dependencies(durable_url, valkey, RabbitMQAccess(balancer.port))


async def _kill(cluster: Cluster, node: Node) -> None:
    del cluster
    node.process.kill()


async def _part(cluster: Cluster, node: Node) -> None:
    await cluster.part(node)


@pytest.mark.parametrize("harm", [_kill, _part], ids=["killed", "parted"])
async def test_the_leader_of_a_queue_is_lost(harm: Any, cluster: Cluster, system: System) -> None:
    async with system.shop() as shop:
        body = shop.order_body((await shop.product(stock=100_000), 1))
        await system.start("worker")
        sender = Sender(system.dependencies, body)
        await system.settled(30, 60)
        leader = await cluster.leader(Queue.ORDER)

        await harm(cluster, leader)
        began = time.monotonic()
        await eventually(lambda: _settled_since(system, sender, began), _CONSUMED_AGAIN)
        print(f"\na message sent and applied after {time.monotonic() - began:.1f} s")
        await asyncio.sleep(5)

        await cluster.heal()
        if not leader.process.running:
            await leader.start()
        await cluster.mended()
        await eventually(lambda: _settled_since(system, sender, time.monotonic() - 5), 60)
        await sender.stop()
        await _are_applied_once(system, {Queue.ORDER: list(sender.sent)})


async def _settled_since(system: System, sender: Sender, moment: float) -> bool:
    late = [name for name, at in sender.sent.items() if at > moment]
    query = "SELECT count(*) FROM messages WHERE finished_at IS NOT NULL AND message_id = ANY ($1)"
    return bool(late and await system.value(query, late))


async def _are_applied_once(system: System, published: Mapping[Queue, list[str]]) -> None:
    await system.settled(sum(map(len, published.values())), 60)
    assert await system.worker.stop() == 0, system.worker.output
    async with system.queues() as queues:
        outcomes = await check_exactly_once(system.database_url, queues, published)
    assert set(outcomes.values()) == {"applied"}


class TestCrashes:
    """One node is enough for a quorum queue to count deliveries."""

    @pytest.fixture
    async def node(self, rabbitmq: RabbitMQ) -> AsyncIterator[RabbitMQ]:
        await rabbitmq.control("add_vhost", "quorum", "--default-queue-type", "quorum")
        await rabbitmq.control("set_permissions", "-p", "quorum", USER, ".*", ".*", ".*")
        yield rabbitmq
        await rabbitmq.control("delete_vhost", "quorum")

    @pytest.fixture
    def durable_dependencies(
        self, durable_url: str, valkey: Valkey, node: RabbitMQ
    ) -> Dependencies:
        return Dependencies(durable_url, valkey, RabbitMQAccess(node.port, "quorum"))

    async def test_a_limit_of_deliveries_drops_what_a_worker_has_in_hand(
        self, system: System, node: RabbitMQ
    ) -> None:
        """As RabbitMQ 4 does after 20 deliveries, unless it is told otherwise."""
        await _limit(node, 3)
        async with system.shop() as shop, system.queues() as queues:
            orders = await _orders(shop)
            await send_all(queues, Queue.ORDER, orders)
            for _ in range(4):
                await system.crash("worker", "work.before_commit")
            assert await queues.count(Queue.ORDER) == 0
        assert await system.value("SELECT count(*) FROM messages") == 0

    async def test_a_worker_that_crashes_25_times_loses_nothing(
        self, system: System, node: RabbitMQ
    ) -> None:
        await _limit(node, 1_000_000)  # as docs/messages.md says
        async with system.shop() as shop, system.queues() as queues:
            orders = await _orders(shop)
            await send_all(queues, Queue.ORDER, orders)
            for _ in range(_CRASHES):
                await system.crash("worker", "work.before_commit")
        await system.start("worker")
        await _are_applied_once(system, {Queue.ORDER: list(orders)})


async def _orders(shop: Any) -> dict[str, Any]:
    body = shop.order_body((await shop.product(stock=100), 1))
    return {f"order-{number}": body for number in range(30)}


async def _limit(node: RabbitMQ, deliveries: int) -> None:
    definition = f'{{"delivery-limit": {deliveries}}}'
    await node.control("set_policy", "-p", "quorum", "deliveries", ".*", definition)
