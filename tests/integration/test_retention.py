"""Nothing grows for ever: what is only needed for a while is deleted, in batches."""

from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika
import pytest
from redis.asyncio import Redis

from app.container import Container
from app.messaging.broker import Outgoing
from app.queues import DEAD_TASKS, TASKS, Queue
from app.redis_connections import connection_options
from app.repositories import retention
from app.schemas.products import ProductUpdate
from app.settings import Settings
from harness.databases import connected
from harness.invariants import broken_rules
from harness.rabbitmq import VHOST, RabbitMQ
from harness.shop import Shop
from harness.waiting import eventually

_KEYS = """
INSERT INTO idempotency_keys
SELECT '{name}' || i, '', '{{}}', now() - interval '{hours} hours' FROM generate_series(1, {count}) i
"""
_MESSAGES = """
INSERT INTO messages (message_id, queue, status, first_seen_at, finished_at, result_id)
SELECT '{name}' || i, 'order', '{status}', now() - interval '{seen} days',
    {finished}, CASE '{status}' WHEN 'applied' THEN 1 END FROM generate_series(1, {count}) i
"""


async def _names(database_url: str, query: str) -> set[str]:
    async with connected(database_url) as connection:
        return {row[0] for row in await connection.fetch(query)}


async def test_keys_are_deleted_in_batches_after_a_day(
    container: Container, database_url: str
) -> None:
    many = retention.BATCH * 4 + 7
    async with connected(database_url) as connection:
        await connection.execute(_KEYS.format(name="old", hours=25, count=many))
        await connection.execute(_KEYS.format(name="new", hours=23, count=3))
        locked = connection.transaction()
        await locked.start()  # a repeat of an old request is at work: its key is left alone
        await connection.execute("SELECT FROM idempotency_keys WHERE key = 'old7' FOR UPDATE")
        await container.retention.tick()
        await locked.rollback()
    left = await _names(database_url, "SELECT key FROM idempotency_keys")
    assert left == {"old7", "new1", "new2", "new3"}


async def test_no_statement_deletes_more_than_a_batch(
    container: Container, database_url: str
) -> None:
    async with connected(database_url) as connection:
        await connection.execute(_KEYS.format(name="old", hours=25, count=retention.BATCH + 9))
    async with container.database.autocommit() as one:
        more = await retention.RetentionRepository(one).forget_keys(timedelta(hours=24))
    assert more and len(await _names(database_url, "SELECT key FROM idempotency_keys")) == 9


async def test_a_message_id_protects_for_its_days(container: Container, database_url: str) -> None:
    """Counted from when the message was finished: a letter may be retried after weeks."""
    ago = "now() - interval '{} days'"
    rows = [
        ("old", "applied", 31, ago.format(31), retention.BATCH + 3),
        ("refused", "rejected", 31, ago.format(31), 1),
        ("dead", "dead", 31, ago.format(31), 1),
        ("failing", "failing", 31, "NULL", 1),
        ("fresh", "applied", 29, ago.format(29), 1),
        ("retried", "applied", 90, ago.format(1), 1),
    ]
    async with connected(database_url) as connection:
        for name, status, seen, finished, count in rows:
            values = {"name": name, "status": status, "seen": seen, "finished": finished}
            await connection.execute(_MESSAGES.format(**values, count=count))
    await container.retention.tick()
    left = await _names(database_url, "SELECT message_id FROM messages")
    assert left == {"fresh1", "retried1"}


async def test_old_movements_become_part_of_the_opening(
    container: Container, shop: Shop, database_url: str
) -> None:
    """And the ledger adds up to the stock, also of a product that began without stock."""
    product_ids = [await shop.product(stock=20), await shop.product(stock=0)]
    async with container.unit_of_work() as uow:
        await uow.products.update(product_ids[1], _stock(20))
    orders = [await shop.order(*((id, 2) for id in product_ids)) for _ in range(4)]
    async with connected(database_url) as connection:
        await connection.execute(
            "UPDATE stock_movements SET created_at = now() - interval '800 days' "
            f"WHERE order_id IS NULL OR order_id <> {orders[-1].id}"
        )
    for _ in range(2):
        await container.retention.tick()
        async with connected(database_url) as connection:
            rows = await connection.fetch(
                "SELECT product_id, reason, quantity FROM stock_movements ORDER BY 1, 2"
            )
        assert [tuple(row) for row in rows] == [
            (id, *rest) for id in product_ids for rest in [("opening", 14), ("order", -2)]
        ]
        assert "the ledger adds up to the stock" not in await broken_rules(database_url)


def _stock(quantity: int) -> ProductUpdate:
    return ProductUpdate(stock_quantity=quantity)


async def test_many_movements_are_folded_batch_by_batch(
    container: Container, shop: Shop, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    product_id = await shop.product(stock=20)
    for _ in range(10):
        await shop.order((product_id, 1))
    async with connected(database_url) as connection:
        await connection.execute(
            "UPDATE stock_movements SET created_at = now() - interval '800 days'"
        )
    await container.retention.tick()
    query = "SELECT concat(reason, quantity) FROM stock_movements"
    assert await _names(database_url, query) == {"opening10"}


@pytest.mark.parametrize("transport", ["rabbitmq"])
async def test_old_dead_letters_are_dropped_on_rabbitmq(container: Container) -> None:
    for age in (120, 91, 89, 1):
        seen = {"x-first-seen": (datetime.now(UTC) - timedelta(days=age)).isoformat()}
        await container.broker.publish(Outgoing(Queue.ORDER.dead, b"x", f"{age} days", seen))
    await container.broker.publish(Outgoing(Queue.ORDER.dead, b"x", "of others"))
    await container.retention.tick()
    async with container.broker.dead_letters(Queue.ORDER) as dead:
        left = [letter.message_id async for letter in dead.letters]
    assert left == ["89 days", "1 days", "of others"]


@pytest.mark.parametrize("transport", ["rabbitmq"])
async def test_old_dead_tasks_are_dropped(container: Container, rabbitmq: RabbitMQ) -> None:
    """RabbitMQ itself moves a task there, when it expires, and says since when it is dead."""
    async with await aio_pika.connect(rabbitmq.url) as connection:
        channel = await connection.channel()
        dead = await channel.declare_queue(DEAD_TASKS, durable=True)
        arguments: dict[str, Any] = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": DEAD_TASKS,
        }
        await channel.declare_queue(TASKS, durable=True, arguments=arguments)
        task = aio_pika.Message(b"expired", expiration=timedelta())
        await channel.default_exchange.publish(task, routing_key=TASKS)
        await channel.default_exchange.publish(aio_pika.Message(b"of others"), DEAD_TASKS)
        await eventually(lambda: _count(channel, DEAD_TASKS, 2))
        now = datetime.now(UTC)
        await container.broker.drop_dead(now - timedelta(days=1))
        assert await _count(channel, DEAD_TASKS, 2)
        await container.broker.drop_dead(now + timedelta(days=1))
        left = await dead.get(no_ack=True)
        assert left.body == b"of others" and await _count(channel, DEAD_TASKS, 0)


async def _count(channel: aio_pika.abc.AbstractChannel, name: str, count: int) -> bool:
    declared = await channel.declare_queue(name, passive=True)
    return declared.declaration_result.message_count == count


@pytest.mark.parametrize("transport", ["rabbitmq"])
async def test_a_dead_queue_that_is_refused_keeps_no_other_from_its_cleaning(
    container: Container, rabbitmq: RabbitMQ
) -> None:
    old = {"x-first-seen": (datetime.now(UTC) - timedelta(days=91)).isoformat()}
    await container.broker.publish(Outgoing(Queue.ORDER_UPDATE.dead, b"x", "old", old))
    allowed = ("set_permissions", "-p", VHOST, container.settings.rabbitmq_user, ".*", ".*")
    await rabbitmq.control(*allowed, f"^(?!{Queue.PRODUCT}).*")
    try:
        await container.retention.tick()
    finally:
        await rabbitmq.control(*allowed, ".*")
    async with container.broker.dead_letters(Queue.ORDER_UPDATE) as dead:
        assert not [letter async for letter in dead.letters]


async def test_old_dead_letters_and_reports_are_dropped_from_streams(
    container: Container, settings: Settings
) -> None:
    kept = {"order.dead": 90, "report": 30}
    async with Redis.from_url(**connection_options(settings.streams_address)) as client:
        for stream, days in kept.items():
            for age in (days + 30, days + 1, days - 1):
                at = datetime.now(UTC) - timedelta(days=age)
                await client.xadd(stream, {"age": age}, id=f"{int(at.timestamp() * 1000)}-0")
        await container.retention.tick()
        for stream, days in kept.items():
            entries: Any = await client.xrange(stream)
            assert [int(fields[b"age"]) for _, fields in entries] == [days - 1]
