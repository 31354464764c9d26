"""The queues' Valkey when it is full, and what keeps it from filling."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from app import worker
from app.container import Container
from app.embedded import Valkey
from app.errors import Unavailable
from app.messaging import streams
from app.messaging.broker import Outgoing
from app.schemas.messages import Queue
from harness.dependencies import Dependencies
from harness.shop import Shop
from harness.waiting import eventually
from tests.integration.test_outbox import left, put

FILLER = "x" * 100_000


@pytest.fixture(name="small")
async def _small(tmp_path: Path) -> AsyncIterator[Valkey]:
    server = Valkey(tmp_path, config={"maxmemory": "8mb", "appendonly": "no"})
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def dependencies(database_url: str, valkey: Valkey, small: Valkey) -> Dependencies:
    return Dependencies(database_url, valkey, queues=small)


async def parts(client: httpx.AsyncClient) -> dict[str, str]:
    found: dict[str, str] = (await client.get("/health/ready")).json()["parts"]
    return found


async def test_full_queues_are_seen_refuse_clearly_and_stop_neither_http_nor_the_consumers(
    container: Container,
    client: httpx.AsyncClient,
    shop: Shop,
    dependencies: Dependencies,
    database_url: str,
) -> None:
    product_id = await shop.product(stock=10)
    async with Redis.from_url(dependencies.streams_url) as redis:
        async with worker.consuming(container):
            await redis.config_set("maxmemory", 1)
            order = Outgoing(Queue.ORDER, b"{}", "order-1")
            with pytest.raises(Unavailable, match="the queues refuse: .*maxmemory"):
                await container.broker.publish(order)
            await eventually(lambda: _is_degraded(client))
            assert (await client.post("/orders", json=shop.order_body((product_id, 1)))).is_success
            await put(database_url, "report-1")
            with pytest.raises(Unavailable):
                await container.relay.tick()
            assert await left(database_url) == ["report-1"]
        # Another process may start meanwhile.
        async with worker.consuming(container):
            await redis.config_set("maxmemory", "8mb")
            await container.relay.tick()
            assert await left(database_url) == []
            await container.broker.publish(order)
            await eventually(lambda: redis.xlen(Queue.ORDER.dead))
            assert not await redis.xlen(Queue.ORDER)
        await eventually(lambda: _is_well(client))


async def _is_degraded(client: httpx.AsyncClient) -> bool:
    return (await parts(client))["rabbitmq"] == "degraded"


async def _is_well(client: httpx.AsyncClient) -> bool:
    return set((await parts(client)).values()) == {"ok"}


async def test_reports_that_nobody_consumes_leave_room_for_orders(
    container: Container,
    dependencies: Dependencies,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(streams, "_MOST_REPORT_BYTES", 2_000_000)
    for number in range(100):
        await container.broker.publish(Outgoing(Queue.REPORT, FILLER.encode(), f"report:{number}"))
    async with Redis.from_url(dependencies.streams_url) as redis:
        assert 10 <= await redis.xlen(Queue.REPORT) <= 20
        newest: Any = await redis.xrevrange(Queue.REPORT, count=1)
        assert b"report:99" in newest[0][1][b"__data__"]
    assert "the queue `report` was full" in capsys.readouterr().out
    await container.broker.publish(Outgoing(Queue.ORDER, b"{}", "order-1"))
