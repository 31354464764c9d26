"""Many buyers of the same few products, through the real processes."""

import asyncio
import random
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.queues import Queue
from tests.faults.support.system import System, send_all

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = [
    pytest.mark.fault,
    pytest.mark.long,
    pytest.mark.parametrize("transport", ["rabbitmq"]),
]


def _both_ways(products: list[int]) -> list[tuple[int, int]]:
    chosen = random.sample(products, 6)
    return [(product_id, 1) for product_id in sorted(chosen, reverse=random.random() < 0.5)]


async def _place(client: httpx.AsyncClient, body: Any) -> httpx.Response:
    """Repeats the POST after a 503, because a busy machine is not a failure. The Idempotency-Key
    makes that safe."""
    headers = {"Idempotency-Key": uuid4().hex}
    while True:
        response = await client.post("/orders", json=body, headers=headers)
        if response.status_code != 503:
            return response
        await asyncio.sleep(random.random())


async def test_orders_that_name_products_in_opposite_order_do_not_deadlock(system: System) -> None:
    """32 concurrent orders over HTTP and two workers on the queue, for the same ten products."""
    async with system.shop() as shop, system.queues() as queues, system.client() as client:
        products = [await shop.product(stock=100_000) for _ in range(10)]
        log = system.postgres.directory / "postgres.log"
        begins = log.stat().st_size
        second = system.another("worker-2", "worker")
        second.start()
        await system.start("web", "worker")
        orders = {f"order-{n}": shop.order_body(*_both_ways(products)) for n in range(400)}
        sending = asyncio.create_task(send_all(queues, Queue.ORDER, orders))

        async def buy() -> list[int]:
            bodies = [shop.order_body(*_both_ways(products)) for _ in range(15)]
            return [(await _place(client, body)).status_code for body in bodies]

        statuses = Counter(sum(await asyncio.gather(*(buy() for _ in range(32))), []))
        await sending
        await system.settled(len(orders))
        assert await second.stop() == 0
        assert set((await system.outcomes(queues, {Queue.ORDER: orders})).values()) == {"applied"}
        assert statuses == {201: 480}
        assert b"40P01" not in log.read_bytes()[begins:]


async def test_five_hundred_buyers_of_a_hundred_pieces(system: System) -> None:
    async with system.shop() as shop, system.client() as client:
        product_id = await shop.product(stock=100)
        await system.start("web")
        gate = asyncio.Semaphore(32)

        async def buy() -> httpx.Response:
            async with gate:
                return await _place(client, shop.order_body((product_id, 1)))

        responses = await asyncio.gather(*(buy() for _ in range(500)))
        assert Counter(response.status_code for response in responses) == {201: 100, 409: 400}
        refusals: list[Any] = [one.json() for one in responses if one.status_code == 409]
        assert {body["reason"] for body in refusals} == {"out-of-stock"}
        assert await shop.stock(product_id) == 0
