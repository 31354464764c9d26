"""The Valkey of the one-process mode, full: the cache gives way, and the queues say so."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError
from structlog.testing import capture_logs

from app import worker
from app.container import Container
from app.errors import Unavailable
from app.messaging.broker import Outgoing
from app.queues import Queue
from app.redis_connections import connection_options
from app.settings import Settings
from harness.databases import connected
from harness.service import becomes_well
from harness.shop import Shop
from harness.waiting import eventually
from tests.integration.conftest import Outcome

_MIB = 1024 * 1024
_REPORT = Outgoing(Queue.REPORT, b"{}", "report")


@pytest.fixture(name="streams")
async def _streams(settings: Settings) -> AsyncIterator[Redis]:
    """With room for 2 MiB more."""
    async with Redis.from_url(**connection_options(settings.streams_address)) as redis:
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", used + 2 * _MIB)
        yield redis
        await redis.replicaof("NO", "ONE")
        await redis.config_set("maxmemory", "256mb")


async def _fill(streams: Redis) -> None:
    """Until the filler is removed. What is refused for 10 kB may fit for less, and buffers of
    clients give memory back: so the limit is lowered by half of the filler."""
    with pytest.raises(OutOfMemoryError):
        while True:
            await streams.xadd("filler", {"": b"x" * 10_000})
    used = (await streams.info("memory"))["used_memory"]
    await streams.config_set("maxmemory", used - _MIB)


async def _rabbitmq_is(client: httpx.AsyncClient, status: str) -> bool:
    ready = await client.get("/health/ready")
    return bool(ready.status_code == 200 and ready.json()["parts"]["rabbitmq"] == status)


async def test_the_cache_fills_the_server_and_the_queues_go_on(
    streams: Redis, container: Container, client: httpx.AsyncClient
) -> None:
    path = ""
    for number in range(500):
        user = {"username": f"user{number}", "email": f"{number}@example.com"}
        created = await client.post("/users", json=user | {"description": "\U0001f600" * 2000})
        path = f"/users/{created.json()['id']}"
        assert (await client.get(path)).status_code == 200
    await container.broker.publish(_REPORT)
    assert await streams.xlen("report") == 1
    assert (await streams.info("stats"))["evicted_keys"] > 0
    await becomes_well(client)
    await streams.select(0)
    assert await streams.exists(path.replace("/users/", "user:"))


@pytest.mark.parametrize("illness", ["full", "read-only"])
async def test_streams_that_take_no_message(
    illness: str, streams: Redis, container: Container, client: httpx.AsyncClient
) -> None:
    if illness == "full":
        await _fill(streams)
    else:
        await streams.replicaof("127.0.0.1", 1)
    await eventually(lambda: _rabbitmq_is(client, "degraded"))
    with pytest.raises(Unavailable, match="the queues refuse: .*(maxmemory|read only)"):
        await container.broker.publish(_REPORT)
    assert (await client.post("/report")).status_code == 200
    await streams.replicaof("NO", "ONE")
    await streams.delete("filler")
    await eventually(lambda: _rabbitmq_is(client, "ok"))
    assert await streams.keys("*probe*") == []

    async def is_sent() -> bool:
        await container.relay.tick()
        return bool(await streams.xlen("report"))

    await eventually(is_sent)


async def test_what_full_streams_hold_is_consumed(
    streams: Redis, container: Container, shop: Shop, outcome: Outcome, database_url: str
) -> None:
    order = json.dumps(shop.order_body((await shop.product(stock=1), 1))).encode()
    async with worker.consuming(container), connected(database_url) as connection:
        async with connection.transaction():  # the order is held until the streams are full
            await connection.execute("SELECT FROM products FOR UPDATE")
            await container.broker.publish(Outgoing(Queue.ORDER, order, "order"))
            await _fill(streams)
            assert await streams.xlen("order") == 1
        assert (await outcome("order"))["status"] == "applied"

        async def is_empty() -> bool:
            return await streams.xlen("order") == 0

        await eventually(is_empty)


async def test_a_consumer_starts_though_the_server_is_full(
    streams: Redis, container: Container, outcome: Outcome
) -> None:
    async with worker.consuming(container):
        pass
    await container.broker.publish(Outgoing(Queue.ORDER, b"{}", "order"))
    await streams.config_set("maxmemory", 1)
    async with worker.consuming(container):
        assert (await outcome("order"))["status"] == "dead"
        assert await streams.xlen("order") == 1  # there is no room for its dead letter
        await streams.config_set("maxmemory", "256mb")
        await eventually(lambda: streams.xlen("order.dead"), 30)


async def test_reports_that_nobody_takes_do_not_fill_the_server(
    streams: Redis, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.messaging.streams._REPORT_BYTES", 32 * _MIB)
    await streams.config_set("maxmemory", "64mb")
    with capture_logs() as logs:
        for number in range(80):
            await container.broker.publish(Outgoing(Queue.REPORT, b"x" * _MIB, f"{number}"))
    assert 10 < await streams.xlen("report") < 40
    told = [line for line in logs if "nobody takes them" in line["event"]]
    assert 1 <= len(told) <= 4 and all(line["dropped"] > 10 for line in told)
    newest: Any = await streams.xrevrange("report", count=1)
    assert b"79" in newest[0][1][b"__data__"]
