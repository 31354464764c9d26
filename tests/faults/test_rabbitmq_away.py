"""RabbitMQ crashes, hangs, stops accepting messages, or loses a queue."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import httpx
import pytest
from redis.asyncio import Redis

from app.messaging.broker import PUBLISH_SECONDS
from app.queues import Queue
from harness.rabbitmq import RabbitMQ
from harness.waiting import eventually
from tests.faults.invariants import check_report_messages, take_all
from tests.faults.support.system import System, send_all

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = pytest.mark.fault

both = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])
on_rabbitmq = pytest.mark.parametrize("transport", ["rabbitmq"])

RECONNECTED = 10.0
MOST_HEARTBEAT = 15
_KICK = """
import asyncio
from app.scheduler import broker, nightly_reports

async def main():
    await broker.startup()
    result = await (await nightly_reports.kiq()).wait_result(timeout=20)
    await broker.shutdown()
    assert not result.is_err, result.error

asyncio.run(main())
"""


async def _http_goes_on(client: httpx.AsyncClient, product_id: int) -> None:
    began = time.monotonic()
    assert (await client.get(f"/products/{product_id}")).status_code == 200
    assert (await client.put(f"/products/{product_id}", json={"price": "3.00"})).status_code == 200
    assert time.monotonic() - began < PUBLISH_SECONDS  # neither waits for RabbitMQ


async def _outbox_is_drained(system: System, seconds: float) -> None:
    async def is_empty() -> bool:
        return not await system.fetch("SELECT FROM outbox")

    await eventually(is_empty, seconds, lambda: "the outbox is not empty")


@on_rabbitmq
async def test_a_crash_and_a_restart(system: System, rabbitmq: RabbitMQ) -> None:
    async with system.shop() as shop, system.client() as client:
        product_id = await shop.product(stock=1000)
        orders = {f"order-{n}": shop.order_body((product_id, 1)) for n in range(300)}
        await system.start("web", "worker", "taskiq_worker")
        await _check_heartbeats(rabbitmq)
        async with system.queues() as queues:
            await send_all(queues, Queue.ORDER, orders)
            rabbitmq.kill()
        await _http_goes_on(client, product_id)
        assert (await client.post("/report")).status_code == 200
        await _http_goes_on(client, product_id)
        assert await system.value("SELECT count(*) FROM outbox") == 1
        await rabbitmq.start()
        began = time.monotonic()
        async with system.queues() as queues:
            await _consumed_again(queues, shop.order_body((product_id, 1)))
            assert time.monotonic() - began < RECONNECTED
            await _outbox_is_drained(system, RECONNECTED)
            await system.script("-c", _KICK)
            ids = [*orders, "afterwards"]
            outcomes = await system.outcomes(queues, {Queue.ORDER: ids})
            assert set(outcomes.values()) == {"applied"}
            sent = await take_all(queues, Queue.REPORT)
            await check_report_messages(system.database_url, sent)


async def _consumed_again(queues: Any, body: Any) -> None:
    await queues.send(Queue.ORDER, body, "afterwards")

    async def is_empty() -> bool:
        return not await queues.count(Queue.ORDER)

    await eventually(is_empty, RECONNECTED)


async def _check_heartbeats(rabbitmq: RabbitMQ) -> None:
    """RabbitMQ calls the heartbeat `timeout`. Clients that set none get 60 s."""
    listed = (await rabbitmq.control("list_connections", "timeout")).split()
    seconds = [int(word) for word in listed if word.isdigit()]
    assert seconds and max(seconds) <= MOST_HEARTBEAT, seconds


@asynccontextmanager
async def _memory_alarm(rabbitmq: RabbitMQ) -> AsyncIterator[None]:
    await rabbitmq.control("set_vm_memory_high_watermark", "0.000001")
    try:
        yield
    finally:
        await rabbitmq.control("set_vm_memory_high_watermark", "0.4")


async def _is_ready(client: httpx.AsyncClient) -> bool:
    ready = await client.get("/health/ready")
    return bool(ready.json()["parts"]["rabbitmq"] == "ok")


@pytest.mark.long
@on_rabbitmq
async def test_a_memory_alarm(system: System, rabbitmq: RabbitMQ) -> None:
    async with system.shop() as shop, system.queues() as queues, system.client() as client:
        product_id = await shop.product(stock=100)
        orders = {f"order-{n}": shop.order_body((product_id, 1)) for n in range(20)}
        await send_all(queues, Queue.ORDER, orders)
        await queues.send(Queue.PRODUCT, b"{", "poison")
        await system.start("web", "taskiq_worker")
        async with _memory_alarm(rabbitmq):
            await system.start("worker")
            await system.settled(20, 15)
            assert (await client.post("/report")).status_code == 200
            for _ in range(10):
                await _http_goes_on(client, product_id)
                await asyncio.sleep(1)
            assert await system.value("SELECT count(*) FROM outbox") == 1
            ready = await client.get("/health/ready")
            assert (ready.status_code, ready.json()["parts"]["rabbitmq"]) == (200, "degraded")
        await eventually(lambda: _is_ready(client), 20)
        await _outbox_is_drained(system, 20)
        published = {Queue.ORDER: list(orders), Queue.PRODUCT: ["poison"]}
        outcomes = await system.outcomes(queues, published)
        assert outcomes.pop("poison") == "dead"
        assert set(outcomes.values()) == {"applied"}
        await check_report_messages(system.database_url, await take_all(queues, Queue.REPORT))


@pytest.mark.long
@on_rabbitmq
async def test_a_server_that_hangs_for_half_a_minute(system: System, rabbitmq: RabbitMQ) -> None:
    async with system.shop() as shop, system.client() as client:
        product_id = await shop.product(stock=1000)
        orders = {f"order-{n}": shop.order_body((product_id, 1)) for n in range(100)}
        await system.start("web", "worker", "taskiq_worker")
        async with system.queues() as queues:
            await send_all(queues, Queue.ORDER, orders)
            rabbitmq.node.pause()
        try:
            assert (await client.post("/report")).status_code == 200
            for _ in range(30):
                await _http_goes_on(client, product_id)
                ready = await client.get("/health/ready")
                assert ready.status_code == 200
                await asyncio.sleep(1)
            assert ready.json()["parts"]["rabbitmq"] == "degraded"
            assert await system.value("SELECT count(*) FROM outbox") == 1
        finally:
            rabbitmq.node.resume()
        await eventually(lambda: _accepts(rabbitmq), 20)
        async with system.queues() as queues:
            await _consumed_again(queues, shop.order_body((product_id, 1)))
            await _outbox_is_drained(system, 20)
            await system.script("-c", _KICK)
            outcomes = await system.outcomes(queues, {Queue.ORDER: [*orders, "afterwards"]})
            assert set(outcomes.values()) == {"applied"}
            await check_report_messages(system.database_url, await take_all(queues, Queue.REPORT))


async def _accepts(rabbitmq: RabbitMQ) -> bool:
    try:
        async with await aio_pika.connect(rabbitmq.url, timeout=5):
            return True
    except (OSError, aio_pika.exceptions.AMQPError):
        return False


@both
async def test_a_queue_deleted_under_its_consumer_is_consumed_again(system: System) -> None:
    async with system.shop() as shop, system.queues() as queues:
        body = shop.order_body((await shop.product(stock=10), 1))
        await system.start("worker")
        await queues.send(Queue.ORDER, body, "before")
        await system.settled(1)
        await _deletion(system)(Queue.ORDER)
        await asyncio.sleep(0.5)
        await queues.send(Queue.ORDER, body, "after")
        await system.outcomes(queues, {Queue.ORDER: ["before", "after"]}, RECONNECTED)


def _deletion(system: System) -> Callable[[str], Awaitable[None]]:
    async def delete_queue(name: str) -> None:
        assert system.dependencies.rabbitmq
        async with await aio_pika.connect(system.dependencies.rabbitmq.url) as connection:
            await (await connection.channel()).queue_delete(name)

    async def delete_stream(name: str) -> None:
        async with Redis(port=system.dependencies.valkey.port, db=1) as redis:
            await redis.delete(name)

    return delete_queue if system.dependencies.rabbitmq else delete_stream
