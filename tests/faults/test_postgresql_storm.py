"""While PostgreSQL is down, reconnecting must not become the next fault: attempts are counted."""

import asyncio

import httpx
import pytest

from app.embedded.ports import LOOPBACK, free_port
from app.queues import Queue
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.support.system import System, send_all

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = [
    pytest.mark.fault,
    pytest.mark.long,
    pytest.mark.parametrize("transport", ["rabbitmq"]),
]

SECONDS = 2
# Attempts that a process may make of its own accord: its invalidator, its relay, held messages.
MOST_IN_BACKGROUND = 20 * SECONDS


async def _attempts(proxy: Proxy) -> int:
    before = proxy.connections
    await asyncio.sleep(SECONDS)
    return proxy.connections - before


async def _ask(client: httpx.AsyncClient) -> int:
    """Sends about 100 requests per second for SECONDS; returns how many."""
    requests = []
    for _ in range(SECONDS * 20):
        requests += [asyncio.create_task(client.get("/orders")) for _ in range(5)]
        await asyncio.sleep(0.05)
    responses = await asyncio.gather(*requests)
    assert {response.status_code for response in responses} == {503}
    return len(responses)


def _through(system: System, proxy: Proxy) -> str:
    return system.database_url.replace(
        f"{LOOPBACK}:{system.postgres.port}", f"{LOOPBACK}:{proxy.port}"
    )


async def test_requests_try_once_and_messages_back_off(system: System) -> None:
    async with (
        proxy_to(system.postgres.port) as of_web,
        proxy_to(system.postgres.port) as of_worker,
        system.shop() as shop,
        system.queues() as queues,
        system.client() as client,
    ):
        orders = {f"order-{n}": shop.order_body((await shop.product(), 1)) for n in range(50)}
        web = system.another("web", "web", DATABASE_URL=_through(system, of_web))
        worker = system.another("worker", "worker", DATABASE_URL=_through(system, of_worker))
        for process in (web, worker):
            process.start()
        await system.wait_live(web)
        await worker.says('"message": "consuming"')
        for proxy in (of_web, of_worker):
            proxy.target = (
                LOOPBACK,
                free_port(),
            )  # nothing listens: attempts fail, and are counted
            proxy.cut()
        await send_all(queues, Queue.ORDER, orders)
        await asyncio.sleep(3)  # until the pauses have grown to their longest
        assert await _attempts(of_worker) < MOST_IN_BACKGROUND
        before = of_web.connections
        asked = await _ask(client)
        assert of_web.connections - before < asked + MOST_IN_BACKGROUND
        for proxy in (of_web, of_worker):
            proxy.target = (LOOPBACK, system.postgres.port)
        await system.settled(len(orders), 10)
        system.worker = worker
        assert set((await system.outcomes(queues, {Queue.ORDER: orders})).values()) == {"applied"}
