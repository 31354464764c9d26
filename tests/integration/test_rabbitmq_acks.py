"""Deliveries are acknowledged together, but none before it is settled."""

import asyncio

import pytest

from app.container import Container
from app.messaging import rabbitmq_consumers
from app.messaging.broker import Delivery
from app.queues import Queue
from harness.queues import QueueClient
from harness.waiting import eventually

COUNT = 20
HELD = {"order-0", "order-7"}


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rabbitmq_consumers, "_GRACE_SECONDS", 0.1)


@pytest.mark.parametrize("released", [set[str](), {"order-7"}, HELD], ids=len)
async def test_what_is_held_comes_again_and_nothing_else(
    released: set[str], container: Container, queues: QueueClient
) -> None:
    settled: set[str] = set()
    release = {id: asyncio.Event() for id in HELD}

    async def receive(delivery: Delivery) -> None:
        id = delivery.message_id or ""
        if id in HELD:
            await release[id].wait()
        settled.add(id)

    async with container.broker.consuming({Queue.ORDER: 2 * COUNT}, receive):
        for number in range(COUNT):
            await queues.send(Queue.ORDER, {}, message_id=f"order-{number}")
        await eventually(lambda: len(settled) == COUNT - len(HELD))
        for id in released:
            release[id].set()
        await eventually(lambda: released <= settled)
    assert await _taken(queues) == HELD - released


async def _taken(queues: QueueClient) -> set[str]:
    """What returns to a queue comes before what is sent later."""
    await queues.send(Queue.ORDER, {}, message_id="last")
    taken: set[str] = set()
    while (id := (await queues.take(Queue.ORDER)).message_id) != "last":
        taken.add(id or "")
    return taken
