"""What the monitor finds out about the servers, on both transports."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from app.container import Container
from app.embedded import Valkey
from app.queues import DEAD_TASKS, TASKS, Queue
from harness.databases import connected
from harness.queues import QueueClient
from harness.waiting import eventually

both = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])
on_rabbitmq = pytest.mark.parametrize("transport", ["rabbitmq"])

Figure = Callable[..., Awaitable[float | None]]


@pytest.fixture
async def figure(container: Container) -> Figure:
    """Looks once, and says what a scrape would tell of a metric."""
    [(look, _)] = container.monitoring_loops(TASKS, DEAD_TASKS)

    async def told(name: str, **labels: str) -> float | None:
        await look()
        return REGISTRY.get_sample_value(name, labels)

    return told


@both
async def test_the_depth_of_a_queue_and_its_consumers(
    queues: QueueClient, figure: Figure, transport: str
) -> None:
    await queues.declare(Queue.ORDER)
    assert await figure("queue_messages", queue="order") == 0
    for number in range(3):
        await queues.send(Queue.ORDER, b"{}", f"m{number}")
    await eventually(lambda: _is(figure("queue_messages", queue="order"), 3))
    consumers = await figure("queue_consumers", queue="order")
    oldest = await figure("queue_oldest_seconds", queue="order")
    if transport == "rabbitmq":
        assert (consumers, oldest) == (0, None)
    else:
        assert consumers is None and oldest is not None and 0 <= oldest < 60
    assert await figure("dead_letters", queue="order") in (0, None)


async def _is(value: Awaitable[Any], expected: Any) -> bool:
    return bool(await value == expected)


@both
@pytest.mark.usefixtures("consumers")
async def test_dead_letters_stand_under_the_name_of_their_queue(
    queues: QueueClient, figure: Figure
) -> None:
    await queues.send(Queue.PRODUCT, b"{", "poison")
    await eventually(lambda: _is(figure("dead_letters", queue="product"), 1))
    assert await figure("queue_messages", queue="product.dead") is None


@on_rabbitmq
@pytest.mark.usefixtures("consumers")
async def test_consumers_are_counted(figure: Figure) -> None:
    assert await figure("queue_consumers", queue="order_update") == 1
    assert await figure("queue_consumers", queue="report") == 0
    # No taskiq worker has declared it yet: that is no failure.
    assert await figure("queue_consumers", queue=TASKS) is None


async def test_the_outbox_and_its_oldest_message(figure: Figure, database_url: str) -> None:
    assert (await figure("outbox_messages"), await figure("outbox_oldest_seconds")) == (0, 0)
    async with connected(database_url) as connection:
        await connection.execute(
            "INSERT INTO outbox (queue, message_id, body, created_at) "
            "VALUES ('report', 'a', '{}', now() - interval '1 hour'), ('report', 'b', '{}', now())"
        )
    assert await figure("outbox_messages") == 2
    oldest = await figure("outbox_oldest_seconds")
    assert oldest and 3600 <= oldest < 3700


async def test_the_nights_that_are_not_built(
    container: Container, figure: Figure, database_url: str
) -> None:
    """As `days_owed`, but for yesterday and late orders, which are owed without being late."""
    assert await figure("report_days_not_built") == 0
    async with connected(database_url) as connection:
        await connection.execute("UPDATE installation SET started_at = now() - interval '3 days'")
    assert await figure("report_days_not_built") == 3
    async with container.reading() as uow:
        days = await uow.reports.days_owed()
    for built, day in enumerate(days, 1):
        async with container.unit_of_work() as uow:
            await uow.reports.build(day)
        assert await figure("report_days_not_built") == 3 - built


async def test_the_disk(figure: Figure) -> None:
    free, size = await figure("disk_free_bytes"), await figure("disk_size_bytes")
    assert free and size and 0 < free < size


async def test_the_pool(container: Container) -> None:
    in_use = "database_connections_in_use"
    async with container.database.transaction(5) as connection:
        await connection.execute(text("SELECT 1"))
        await container.database.observe()
        assert REGISTRY.get_sample_value(in_use) == 1
    await container.database.observe()
    assert REGISTRY.get_sample_value(in_use) == 0
    assert REGISTRY.get_sample_value("database_connections_most") == 10


async def test_a_server_that_is_away_costs_its_own_figures_alone(
    figure: Figure, valkey: Valkey
) -> None:
    assert await figure("part_up", part="redis") == 1
    await valkey.stop()
    # The health checks remember their last answer for a second.
    await eventually(lambda: _is(figure("part_up", part="redis"), 0))
    assert await figure("queue_messages", queue="order") is None  # on streams
    assert await figure("outbox_messages") == 0
    assert await figure("part_up", part="postgresql") == 1
