"""PostgreSQL crashes, hangs or holds locks: requests get 503 with Retry-After, messages wait."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from app.queues import Queue
from harness.databases import connected, waiting_for_locks
from harness.shop import Shop
from harness.waiting import eventually
from tests.faults.invariants import check_acknowledged
from tests.faults.support.buyers import Buyers, check_asked_to_wait
from tests.faults.support.system import System, drained, send_all

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = pytest.mark.fault

both = pytest.mark.parametrize(
    "transport", ["rabbitmq", pytest.param("streams", marks=pytest.mark.long)]
)
on_rabbitmq = pytest.mark.parametrize("transport", ["rabbitmq"])

ANSWERED, RECOVERED = 3.0, 5.0  # seconds


async def _recovers(client: httpx.AsyncClient, product_id: int) -> None:
    """Waits for a 200. Until then every response must be a 503."""

    async def is_back() -> bool:
        response = await client.get("/orders")
        if response.status_code != 200:
            check_asked_to_wait(response)
        return response.status_code == 200

    await eventually(is_back, RECOVERED)
    assert (await client.put(f"/products/{product_id}", json={"price": "7.00"})).status_code == 200


@both
async def test_three_crashes_while_orders_come_over_http_and_queue(system: System) -> None:
    async with system.shop() as shop, system.queues() as queues, system.client() as client:
        product_id = await shop.product(stock=100_000)
        orders = {f"order-{n}": shop.order_body((product_id, 1)) for n in range(200)}
        await system.start("web", "worker")
        buyers = Buyers(client, shop, product_id)
        sending = asyncio.create_task(send_all(queues, Queue.ORDER, orders, pause=0.015))
        for _ in range(3):
            await asyncio.sleep(0.7)
            await system.postgres.immediate()
            await asyncio.sleep(0.4)
            await system.postgres.start()
            await _recovers(client, product_id)
        await sending
        await buyers.stop()
        assert buyers.statuses.keys() == {201, 503}
        assert buyers.slowest < ANSWERED
        assert system.web.running and system.worker.running
        outcomes = await system.outcomes(queues, {Queue.ORDER: orders})
        assert set(outcomes.values()) == {"applied"}
        await check_acknowledged(system.database_url, buyers.acknowledged)


@on_rabbitmq
async def test_a_frozen_server(system: System) -> None:
    async with system.shop() as shop, system.queues() as queues, system.client() as client:
        product_id = await shop.product(stock=100)
        orders = {f"order-{n}": shop.order_body((product_id, 1)) for n in range(20)}
        await system.start("web", "worker")
        assert (await client.get("/orders")).status_code == 200
        system.postgres.pause()
        try:
            await send_all(queues, Queue.ORDER, orders)
            await asyncio.gather(*(_ask_frozen(client, shop, product_id) for _ in range(8)))
            assert (await _timed(client, "GET", "/health/live", 0.5)).status_code == 200
            ready = await _timed(client, "GET", "/health/ready", ANSWERED)
            assert (ready.status_code, ready.json()["parts"]["postgresql"]) == (503, "down")
            assert await queues.count(Queue.ORDER.dead) == 0
        finally:
            system.postgres.resume()
        await _recovers(client, product_id)
        outcomes = await system.outcomes(queues, {Queue.ORDER: orders})
        assert set(outcomes.values()) == {"applied"}
        assert await shop.stock(product_id) == 80
        assert not system.errors(), system.errors()


async def _ask_frozen(client: httpx.AsyncClient, shop: Shop, product_id: int) -> None:
    body = shop.order_body((product_id, 1))
    for response in await asyncio.gather(
        _timed(client, "GET", "/orders", ANSWERED),
        _timed(client, "POST", "/orders", ANSWERED, json=body),
        _timed(client, "PUT", f"/products/{product_id}", ANSWERED, json={"price": "8.00"}),
    ):
        check_asked_to_wait(response)


async def _timed(
    client: httpx.AsyncClient, method: str, path: str, limit: float, **arguments: Any
) -> httpx.Response:
    began = time.monotonic()
    response = await client.request(method, path, **arguments)
    assert time.monotonic() - began < limit, (method, path, time.monotonic() - began)
    return response


@on_rabbitmq
async def test_sixty_requests_wait_for_a_row_that_another_transaction_has_locked(
    system: System,
) -> None:
    async with system.shop() as shop, system.client() as client:
        product_id = await shop.product(stock=100)
        await system.start("web")
        path = f"/products/{product_id}"
        async with connected(system.database_url) as session:
            async with session.transaction():
                await session.execute("SELECT FROM products WHERE id = $1 FOR UPDATE", product_id)
                writes = [
                    asyncio.create_task(_timed(client, "PUT", path, 6, json={"price": "9.00"}))
                    for _ in range(60)
                ]
                await eventually(lambda: waiting_for_locks(system.database_url))
                assert (await _timed(client, "GET", "/health/live", 1)).status_code == 200
                assert (await _timed(client, "GET", "/health/ready", 1.5)).status_code == 200
                for response in await asyncio.gather(*writes):
                    check_asked_to_wait(response)
        assert (await client.put(path, json={"price": "9.00"})).status_code == 200
        assert not system.errors(), system.errors()


@pytest.mark.long
@both
async def test_messages_without_an_id_survive_a_long_freeze(system: System) -> None:
    """The freeze is longer than the time after which streams reclaim an entry as abandoned. Entries
    that merely wait must not be reclaimed."""
    async with system.shop() as shop, system.queues() as queues:
        product_id = await shop.product(stock=100)
        await system.start("worker")
        system.postgres.pause()
        try:
            for _ in range(40):
                await queues.send(Queue.ORDER, shop.order_body((product_id, 1)))
            await asyncio.sleep(35)
        finally:
            system.postgres.resume()
        await drained(queues)
        assert await system.worker.stop() == 0
        assert await queues.count(Queue.ORDER) == await queues.count(Queue.ORDER.dead) == 0
        assert await system.value("SELECT count(*) FROM orders") == 40
