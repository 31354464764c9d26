"""What exists in RabbitMQ only: declarations, vhosts, logins."""

import asyncio
from typing import Any

import aio_pika
import pytest
from structlog.testing import capture_logs

from app import worker
from app.container import Container
from app.embedded.ports import free_port
from app.errors import Unavailable
from app.queues import CONSUMED, Queue
from harness.dependencies import Dependencies
from harness.rabbitmq import RabbitMQ
from harness.waiting import eventually

ALL_QUEUES = [*Queue, *(queue.dead for queue in CONSUMED)]


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


async def test_any_client_may_declare_the_queues_plainly(
    container: Container, rabbitmq: RabbitMQ
) -> None:
    async with (
        await aio_pika.connect(rabbitmq.url) as connection,
        worker.consuming(container),
    ):
        channel = await connection.channel()
        for name in ALL_QUEUES:
            await channel.declare_queue(name, passive=True)  # it exists
            await channel.declare_queue(name, durable=True)  # no 406
        assert not channel.is_closed


async def test_queues_that_a_client_declared_first_are_used(
    container: Container, rabbitmq: RabbitMQ
) -> None:
    async with await aio_pika.connect(rabbitmq.url) as connection:
        channel = await connection.channel()
        for name in ALL_QUEUES:
            await channel.declare_queue(name, durable=True)
        async with worker.consuming(container):
            order = await channel.declare_queue(Queue.ORDER, passive=True)
            assert order.declaration_result.consumer_count == 1


@pytest.mark.parametrize(
    ("wrong", "variables"),
    [
        ({"rabbitmq_vhost": "nope"}, ["RABBITMQ_VHOST"]),
        ({"rabbitmq_password": "s3cr3t"}, ["RABBITMQ_USER", "RABBITMQ_PASSWORD"]),
        ({"rabbitmq_host": "no-such-host.invalid"}, ["RABBITMQ_HOST"]),
        ({"rabbitmq_port": free_port()}, ["RABBITMQ_PORT"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_wrong_setting_is_reported_in_one_line_that_names_it(
    wrong: dict[str, Any], variables: list[str], dependencies: Dependencies
) -> None:
    async with Container.open(dependencies.settings(**wrong)) as container:
        with pytest.raises(Unavailable) as caught:
            await container.broker.ping()
    line = str(caught.value)
    assert all(name in line for name in variables), line
    assert "\n" not in line and "s3cr3t" not in line


async def test_the_worker_waits_for_a_broker_that_comes_later(
    container: Container, rabbitmq: RabbitMQ
) -> None:
    await rabbitmq.stop()
    stop = asyncio.Event()

    async def work() -> None:
        async with worker.consuming(container):
            await stop.wait()

    with capture_logs() as lines:
        working = asyncio.create_task(work())
        await eventually(lambda: [line for line in lines if "RABBITMQ_HOST" in line["event"]])
        await rabbitmq.start()
        await eventually(lambda: [line for line in lines if line["event"] == "consuming"], 20)
    stop.set()
    await working
