"""Crashes at the worst moments: around the commit, before the ack, after the publisher confirm."""

from collections import Counter

import pytest

from app.queues import Queue
from harness.waiting import eventually
from tests.faults.invariants import check_report_messages, take_all
from tests.faults.support.system import System, send_all

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = [pytest.mark.fault, pytest.mark.parametrize("transport", ["rabbitmq", "streams"])]


async def test_an_order_survives_a_crash_at_every_point(system: System) -> None:
    """The second crash comes after the commit, and every later delivery must notice that."""
    async with system.shop() as shop, system.queues() as queues:
        product_id = await shop.product(stock=10)
        messages = {f"order-{n}": shop.order_body((product_id, 2)) for n in range(3)}
        await send_all(queues, Queue.ORDER, messages)
        for point in ("work.before_commit", "work.after_commit", "consumer.before_ack"):
            await system.crash("worker", point)
        await system.start("worker")
        outcomes = await system.outcomes(queues, {Queue.ORDER: messages})
        assert set(outcomes.values()) == {"applied"}
        assert await system.value("SELECT stock_quantity FROM products") == 4


async def test_a_crash_after_the_confirm_sends_the_report_again_with_its_id(
    system: System,
) -> None:
    async with system.shop() as shop, system.queues() as queues:
        order = await shop.order((await shop.product(), 2))
        async with system.container() as container, container.unit_of_work() as uow:
            await uow.reports.build(order.ordered_at.date())
        await system.crash("worker", "relay.after_confirm")
        await system.start("worker")
        await eventually(lambda: _outbox_is_empty(system))
        sent = await take_all(queues, Queue.REPORT)
        assert Counter(message.message_id for message in sent).most_common() == [
            (f"report:{order.ordered_at.date()}:1", 2)
        ]
        assert sent[0].body == sent[1].body
        await check_report_messages(system.database_url, sent)


async def _outbox_is_empty(system: System) -> bool:
    return not await system.fetch("SELECT FROM outbox")
