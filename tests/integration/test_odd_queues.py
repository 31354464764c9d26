"""A queue that RabbitMQ refuses stops no other, is named once with its cure, and is tried again."""

import aio_pika
import httpx
import pytest
from structlog.testing import capture_logs

from app import worker
from app.container import Container
from app.errors import Unavailable
from app.queues import Queue
from harness.queues import QueueClient
from harness.rabbitmq import VHOST, RabbitMQ
from harness.waiting import eventually
from tests.integration.conftest import Outcome

PRODUCT = {"name": "Tea", "price": "1.00", "stock_quantity": 1}
ODD = Queue.PRODUCT_UPDATE


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


async def _redeclare(rabbitmq: RabbitMQ, *names: str, **arguments: int) -> None:
    async with await aio_pika.connect(rabbitmq.url) as connection:
        channel = await connection.channel()
        for name in names:
            await channel.queue_delete(name)
            await channel.declare_queue(name, durable=True, arguments=dict(arguments))


async def test_a_queue_with_other_arguments_stops_no_other_and_is_named(
    container: Container,
    rabbitmq: RabbitMQ,
    queues: QueueClient,
    outcome: Outcome,
    client: httpx.AsyncClient,
) -> None:
    await _redeclare(rabbitmq, ODD, ODD.dead, Queue.PRODUCT.dead, **{"x-max-priority": 5})
    with capture_logs() as lines:
        async with worker.consuming(container):
            await queues.send(Queue.PRODUCT, PRODUCT, "others")
            assert (await outcome("others"))["status"] == "applied"
            await queues.send(Queue.PRODUCT, b"{", "dead")
            assert (await outcome("dead"))["status"] == "dead"
            assert set(container.broker.troubles) == {ODD}
            with pytest.raises(Unavailable):
                await worker.check_consuming(container)
            ready = await client.get("/health/ready")
            assert (ready.status_code, ready.json()["parts"][f"queue {ODD}"]) == (200, "degraded")
            async with await aio_pika.connect(rabbitmq.url) as connection:
                await (await connection.channel()).queue_delete(ODD)
            await eventually(lambda: not container.broker.troubles, 15)
            await worker.check_consuming(container)
    told = [line["event"] for line in lines if f"refuses the queue {ODD}:" in line["event"]]
    assert len(told) == 1 and "delete_queue" in told[0]


async def test_a_queue_without_permission_stops_no_other(
    container: Container, rabbitmq: RabbitMQ, queues: QueueClient, outcome: Outcome
) -> None:
    user = container.settings.rabbitmq_user
    allowed = ("set_permissions", "-p", VHOST, user)
    await rabbitmq.control(*allowed, "^(?!product_update$).*", ".*", "^(?!product_update$).*")
    try:
        with capture_logs() as lines:
            async with worker.consuming(container):
                await queues.send(Queue.PRODUCT, PRODUCT, "others")
                assert (await outcome("others"))["status"] == "applied"
                assert set(container.broker.troubles) == {ODD}
                await rabbitmq.control(*allowed, ".*", ".*", ".*")
                await eventually(lambda: not container.broker.troubles, 15)
    finally:
        await rabbitmq.control(*allowed, ".*", ".*", ".*")
    assert [line for line in lines if "set_permissions" in line["event"]]


async def test_a_queue_that_is_redeclared_under_its_consumer_is_noticed(
    container: Container, rabbitmq: RabbitMQ, queues: QueueClient, outcome: Outcome
) -> None:
    async with worker.consuming(container):
        assert not container.broker.troubles
        await _redeclare(rabbitmq, ODD, **{"x-max-length": 9})
        await eventually(lambda: set(container.broker.troubles) == {ODD}, 15)
        await queues.send(Queue.PRODUCT, PRODUCT, "others")
        assert (await outcome("others"))["status"] == "applied"
        async with await aio_pika.connect(rabbitmq.url) as connection:
            await (await connection.channel()).queue_delete(ODD)
        await eventually(lambda: not container.broker.troubles, 15)
