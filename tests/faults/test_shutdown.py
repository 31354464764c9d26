"""SIGTERM: what is in flight is finished or requeued within ten seconds, and the exit code is 0."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import psutil
import pytest

from app.consumers.handlers import BATCH_PREFETCH
from app.queues import Queue
from harness.databases import connected, waiting_for_locks
from harness.processes import Process
from harness.reports import DAY, NOON, make_building_slow, messages
from harness.waiting import eventually
from tests.faults.invariants import check_report_messages
from tests.faults.support.system import System, drained, send_all

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = pytest.mark.fault

both = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])
on_rabbitmq = pytest.mark.parametrize("transport", ["rabbitmq"])

STOPPED = 10.0
_DAWDLING = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'"


@asynccontextmanager
async def _locked(system: System, query: str, *arguments: object) -> AsyncIterator[None]:
    """The transaction of another session locks rows."""
    async with connected(system.database_url) as session, session.transaction():
        await session.execute(query, *arguments)
        yield


async def _are_waiting(system: System, sessions: int) -> bool:
    return await waiting_for_locks(system.database_url) >= sessions


def _settled_by(worker: Process) -> int:
    return worker.output.count('"message settled"')


async def _exits_cleanly(process: Process, began: float) -> None:
    assert await process.ends(STOPPED + 2) == 0, process.output
    assert time.monotonic() - began < STOPPED


def _terminate(process: Process) -> float:
    os.kill(process.pid, signal.SIGTERM)
    return time.monotonic()


async def test_requests_in_flight_get_their_responses(system: System) -> None:
    async with system.shop() as shop, system.client() as client:
        product_id = await shop.product(stock=10)
        body = shop.order_body((product_id, 1))
        await system.start("web")
        async with _locked(system, "SELECT FROM products WHERE id = $1 FOR UPDATE", product_id):
            orders = [asyncio.create_task(client.post("/orders", json=body)) for _ in range(5)]
            await eventually(lambda: _are_waiting(system, 5))
            began = _terminate(system.web)
            await asyncio.sleep(0.5)
        assert {response.status_code for response in await asyncio.gather(*orders)} == {201}
        await _exits_cleanly(system.web, began)
        assert await shop.stock(product_id) == 5


async def test_a_load_balancer_sees_503_before_the_exit(system: System) -> None:
    async with system.client() as client:
        web = system.another("web", "web", SHUTDOWN_DELAY="2")
        web.start()

        async def readiness_is(status: int) -> bool:
            try:
                return (await client.get("/health/ready")).status_code == status
            except httpx.TransportError:
                return False

        await system.wait_live(web)
        jane = {"username": "jane", "email": "jane@example.com"}
        assert (await client.post("/users", json=jane)).status_code == 201
        assert (await client.get("/users/1")).headers.get("connection") is None
        began = _terminate(web)
        await eventually(lambda: readiness_is(503), 1.5)
        # The second is a hot read. A balancer that keeps connections open lets go of each in time.
        for path in ("/users", "/users/1", "/health/live"):
            response = await client.get(path)
            assert (response.status_code, response.headers["connection"]) == (200, "close")
        await _exits_cleanly(web, began)
        assert time.monotonic() - began > 2


@both
async def test_messages_in_flight_are_finished(system: System) -> None:
    async with system.shop() as shop, system.queues() as queues:
        product_id = await shop.product(stock=1000)
        more_than_fit = range(BATCH_PREFETCH + 50)
        orders = {f"order-{n}": shop.order_body((product_id, 1)) for n in more_than_fit}
        await system.start("worker")
        async with _locked(system, "SELECT FROM products WHERE id = $1 FOR UPDATE", product_id):
            await send_all(queues, Queue.ORDER, orders)
            await eventually(lambda: _are_waiting(system, 1))
            began = _terminate(system.worker)
            await asyncio.sleep(0.5)
        await _exits_cleanly(system.worker, began)
        finished = await system.value("SELECT count(*) FROM messages")
        assert 0 < finished < len(orders), "what was not in flight must stay in the queue"
        assert await queues.count(Queue.ORDER) == len(orders) - finished
        await system.start("worker")
        outcomes = await system.outcomes(queues, {Queue.ORDER: orders})
        assert set(outcomes.values()) == {"applied"}


@both
async def test_repeats_in_flight_are_finished_or_requeued(system: System) -> None:
    """Each repeat waits until no cache can be stale, so repeats must not wait for one another."""
    async with system.shop() as shop, system.queues() as queues:
        product_id = await shop.product(stock=1000)
        orders = {f"order-{n}": shop.order_body((product_id, 1)) for n in range(BATCH_PREFETCH)}
        await system.start("worker")
        await send_all(queues, Queue.ORDER, orders)
        await system.settled(len(orders))
        await send_all(queues, Queue.ORDER, orders)
        await drained(queues)
        await eventually(lambda: _settled_by(system.worker) > len(orders) * 3 // 2)
        await _exits_cleanly(system.worker, _terminate(system.worker))
        await system.start("worker")  # what had only just arrived was requeued
        outcomes = await system.outcomes(queues, {Queue.ORDER: orders})
        assert set(outcomes.values()) == {"applied"}


@pytest.mark.long
@both
async def test_messages_that_cannot_be_finished_are_requeued(system: System) -> None:
    async with system.shop() as shop, system.queues() as queues:
        orders = {f"order-{n}": shop.order_body((await shop.product(), 1)) for n in range(20)}
        await system.start("worker")
        system.postgres.pause()
        try:
            await send_all(queues, Queue.ORDER, orders)
            await asyncio.sleep(0.5)
            await _exits_cleanly(system.worker, _terminate(system.worker))
            assert await queues.count(Queue.ORDER) == len(orders)
        finally:
            system.postgres.resume()
        await system.start("worker")
        outcomes = await system.outcomes(queues, {Queue.ORDER: orders})
        assert set(outcomes.values()) == {"applied"}


@pytest.mark.long
async def test_a_request_that_cannot_be_finished_gets_a_503(system: System) -> None:
    async with system.shop() as shop, system.client() as client:
        await shop.order((await shop.product(), 1), ordered_at=NOON)
        await make_building_slow(system.database_url, 30)
        await system.start("web")
        building = asyncio.create_task(client.post(f"/report?report_date={DAY}", timeout=15))
        await eventually(lambda: system.fetch(_DAWDLING))
        await _exits_cleanly(system.web, _terminate(system.web))
        response = await building
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert await system.value("SELECT count(*) FROM reports") == 0


@on_rabbitmq
async def test_the_taskiq_worker_and_the_scheduler_end(system: System) -> None:
    await system.start("taskiq_worker", "scheduler")
    processes = [system.taskiq_worker, system.scheduler]
    began = [_terminate(process) for process in processes]
    assert await processes[0].ends(STOPPED) == 0, processes[0].output
    await processes[1].ends(STOPPED)
    assert time.monotonic() - max(began) < STOPPED


@on_rabbitmq
async def test_a_taskiq_worker_whose_parent_hangs_is_ended_and_loses_nothing(
    system: System,
) -> None:
    """Many SIGTERMs at once make TaskIQ's process manager wait for ever for a lock of its own. Then
    compose kills it after `stop_grace_period`, and the child ends too."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    async with system.shop() as shop, system.queues() as queues:
        await shop.order((await shop.product(), 2), ordered_at=yesterday.isoformat())
        await make_building_slow(system.database_url, 2)
        await system.start("taskiq_worker")
        await eventually(lambda: system.fetch(_DAWDLING), 20)
        (child,) = psutil.Process(system.taskiq_worker.pid).children()
        for _ in range(20):
            os.kill(system.taskiq_worker.pid, signal.SIGTERM)
        await system.taskiq_worker.stop(signal.SIGKILL)
        await eventually(lambda: not child.is_running(), STOPPED)
        await system.start("taskiq_worker")
        sent = await queues.take(Queue.REPORT, 20)
        assert sent.message_id == f"report:{yesterday.date()}:1"
        await eventually(lambda: _nothing_to_send(system))
        await check_report_messages(system.database_url, [sent, *await messages(queues)])


async def _nothing_to_send(system: System) -> bool:
    return not await system.fetch("SELECT FROM outbox")
