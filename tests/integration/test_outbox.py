"""What the relay sends, in which order, and what it does while the broker is away."""

import asyncio

import pytest

from app.container import Container
from app.embedded import Valkey
from app.errors import Unavailable
from harness.databases import connected
from harness.dependencies import Dependencies
from harness.queues import QueueClient

TRANSPORTS = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])


async def put(database_url: str, *message_ids: str, age: str = "1 minute") -> list[int]:
    """Insert rows as if a process had committed them and not sent them; the ids."""
    async with connected(database_url) as connection:
        return [
            await connection.fetchval(
                "INSERT INTO outbox (queue, message_id, headers, body, created_at) VALUES "
                "('report', $1, '{\"report_date\": \"2025-12-16\"}', '{}', "
                "now() - CAST($2::text AS interval)) RETURNING id",
                message_id,
                age,
            )
            for message_id in message_ids
        ]


async def left(database_url: str) -> list[str]:
    async with connected(database_url) as connection:
        rows = await connection.fetch("SELECT message_id FROM outbox ORDER BY id")
    return [row[0] for row in rows]


@TRANSPORTS
async def test_the_relay_sends_in_order_the_rows_that_others_left(
    container: Container, queues: QueueClient, database_url: str
) -> None:
    ids = [f"message-{number}" for number in range(45)]
    await put(database_url, *ids)
    await container.relay.tick()
    assert await left(database_url) == []
    assert [(await queues.take("report")).message_id for _ in ids] == ids
    assert await queues.count("report") == 0


async def test_the_relay_leaves_a_new_row_to_its_writer(
    container: Container, queues: QueueClient, database_url: str
) -> None:
    [row_id] = await put(database_url, "new", age="0 seconds")
    await container.relay.tick()
    assert await left(database_url) == ["new"]
    await container.relay.send([row_id])
    assert await left(database_url) == []
    assert await queues.count("report") == 1


async def test_two_relays_send_every_row_once(
    dependencies: Dependencies, container: Container, queues: QueueClient, database_url: str
) -> None:
    ids = [f"message-{number}" for number in range(60)]
    await put(database_url, *ids)
    async with Container.open(dependencies.settings()) as other:
        while await left(database_url):
            await asyncio.gather(container.relay.tick(), other.relay.tick())
    assert [(await queues.take("report")).message_id for _ in ids] == ids
    assert await queues.count("report") == 0


async def test_rows_stay_while_the_broker_is_away(
    container: Container, queues: QueueClient, database_url: str, valkey: Valkey
) -> None:
    ids = await put(database_url, "one", "two")
    await valkey.stop()
    with pytest.raises(Unavailable):
        await container.relay.send(ids)
    assert await left(database_url) == ["one", "two"]
    await valkey.start()
    await container.relay.tick()
    assert await left(database_url) == []
    assert [(await queues.take("report")).message_id for _ in ids] == ["one", "two"]
