"""`kill -9` of each process while it works: nothing acknowledged is lost, nothing acts twice."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from app.consumers.handlers import BATCH
from app.queues import Queue
from harness.queues import QueueClient
from harness.shop import Shop
from harness.waiting import eventually
from tests.faults.invariants import (
    check_acknowledged,
    check_report_messages,
    take_all,
)
from tests.faults.keepalive import KeepAlive, Lost
from tests.faults.support.system import System

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = pytest.mark.fault

both = pytest.mark.parametrize(
    "transport", ["rabbitmq", pytest.param("streams", marks=pytest.mark.long)]
)
on_rabbitmq = pytest.mark.parametrize("transport", ["rabbitmq"])


async def _orders(shop: Shop, number: int) -> dict[str, Any]:
    """Orders of one to three out of five products, so that they compete for the same rows."""
    products = [await shop.product(stock=100_000) for _ in range(5)]
    return {
        f"order-{n}": shop.order_body(
            *((id, random.randint(1, 3)) for id in random.sample(products, random.randint(1, 3)))
        )
        for n in range(number)
    }


async def _send_with_repeats(queues: QueueClient, orders: dict[str, Any]) -> None:
    repeated = random.sample(list(orders), len(orders) // 5)
    for message_id in random.sample([*orders, *repeated], len(orders) + len(repeated)):
        await queues.send(Queue.ORDER, orders[message_id], message_id)


async def _check_each_placed_once(
    system: System, queues: QueueClient, orders: dict[str, Any]
) -> None:
    outcomes = await system.outcomes(queues, {Queue.ORDER: orders}, 60)
    assert set(outcomes.values()) == {"applied"}
    assert await system.value("SELECT count(*) FROM orders") == len(orders)


@both
async def test_a_worker_killed_while_orders_flow_places_each_once(system: System) -> None:
    async with system.shop() as shop, system.queues() as queues:
        orders = await _orders(shop, 6 * BATCH)
        await _send_with_repeats(queues, orders)
        for done in (10, 150, 300):
            await system.start("worker")
            await system.settled(done)
            system.worker.kill()
        assert await system.value("SELECT count(*) FROM messages") < len(orders), "too late"
        await system.start("worker")
        await _check_each_placed_once(system, queues, orders)


@pytest.mark.long
@both
async def test_a_worker_that_is_killed_every_700_milliseconds(system: System) -> None:
    async with system.shop() as shop, system.queues() as queues:
        orders = await _orders(shop, 1500)
        sending = asyncio.create_task(_send_with_repeats(queues, orders))
        kills = 0
        while await system.value("SELECT count(*) FROM messages") < 1500 and kills < 30:
            await system.start("worker")
            await asyncio.sleep(0.7)
            system.worker.kill()
            kills += 1
        await sending
        assert kills >= 2
        await system.start("worker")
        await _check_each_placed_once(system, queues, orders)


class _Writer:
    """Places orders and renames a user over HTTP, and remembers what was acknowledged."""

    def __init__(self, port: int, shop: Shop, user_id: int, product_id: int) -> None:
        self.user_id = user_id
        self.acknowledged: list[str] = []
        self.version = 0
        self._sent_version = 0
        self._connection = KeepAlive(port, limit=5)
        self._shop = shop
        self._product_id = product_id

    async def run(self) -> None:
        for number in count(1):
            name = f"web-{self.user_id}-{number}"
            body = self._shop.order_body((self._product_id, 1), external_id=name)
            if await self._write("POST", "/orders", body) == 201:
                self.acknowledged.append(name)
            self._sent_version = number
            change = {"description": str(number)}
            if await self._write("PUT", f"/users/{self.user_id}", change) == 200:
                self.version = number

    async def _write(self, method: str, path: str, body: Any) -> int:
        try:
            status = (await self._connection.send(method, path, body)).status
        except Lost:
            await asyncio.sleep(0.05)
            return 0
        assert status < 300, status
        return status

    async def check(self, system: System) -> None:
        await check_acknowledged(system.database_url, self.acknowledged)
        query = "SELECT coalesce(description, '0')::int FROM users WHERE id = $1"
        assert self.version <= await system.value(query, self.user_id) <= self._sent_version

    def close(self) -> None:
        self._connection.close()


async def _acknowledged(writers: list[_Writer], number: int) -> None:
    """Waits until so many orders are acknowledged."""
    await eventually(lambda: sum(len(writer.acknowledged) for writer in writers) >= number, 40)


async def test_an_api_killed_while_writing_keeps_what_it_acknowledged(system: System) -> None:
    async with system.shop() as shop:
        product_id = await shop.product(stock=100_000)
        writers = [_Writer(system.port, shop, await shop.user(), product_id) for _ in range(4)]
        await system.start("web")
        tasks = [asyncio.create_task(writer.run()) for writer in writers]
        for done in (50, 100):
            await _acknowledged(writers, done)
            system.web.kill()
            await system.start("web")
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in results), results
        for writer in writers:
            writer.close()
            await writer.check(system)


@on_rabbitmq
async def test_a_committed_report_is_sent_after_a_crash(system: System) -> None:
    """The crash comes after the commit of the rows and before their message is published."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    async with system.shop() as shop, system.queues() as queues:
        await shop.order((await shop.product(), 2), ordered_at=yesterday.isoformat())
        crashing = system.another("crashing", "taskiq_worker", FAIL_AT="work.after_commit")
        crashing.start()
        await eventually(lambda: system.fetch("SELECT FROM outbox"), 40)
        crashing.kill()
        assert await queues.count(Queue.REPORT) == 0
        await system.start("taskiq_worker")

        async def is_sent() -> bool:
            return not await system.fetch("SELECT FROM outbox")

        await eventually(is_sent, 20)
        sent = await take_all(queues, Queue.REPORT)
        assert [message.message_id for message in sent] == [f"report:{yesterday.date()}:1"]
        assert len(sent[0].json["reports"]) == 1
        await check_report_messages(system.database_url, sent)
