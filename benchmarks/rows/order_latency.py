"""An order's way, from publishing to reply, while orders come at half of the highest rate."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from statistics import quantiles
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage

from benchmarks.lab import Lab
from benchmarks.messages import message
from benchmarks.results import Figures, Line, RowResult, at_most, compare
from benchmarks.rows.orders import shop
from harness.invariants import check_invariants
from harness.waiting import eventually

OURS = "this service"
HIGHEST, RATE = "highest orders/s", "orders/s sent"
P50, P99, WORST = "ms, p50", "ms, p99", "ms, worst"
_FLOOD = 5000
_SECONDS = 10  # of the steady stream


async def measure(lab: Lab) -> RowResult:
    flood = lab.size.rows(_FLOOD, least=200)
    turns = {OURS: lambda: _turn(lab, flood)}
    comparison = await compare("Orders of 3 lines", turns, lab.size.rounds, warm_up=False)
    remarks = [
        f"The highest rate is that of {flood:,} orders that are sent at once, from the first reply "
        f"to the last. Then they come at half of it for {_SECONDS} s, evenly spaced. The time is "
        "from the moment when an order is due to be sent, by the clock of the load generator.",
    ]
    p99 = comparison.values(OURS, P99)
    line = Line("Publish to reply, p99", p99, must=at_most(50), aim=at_most(20), unit="ms")
    return RowResult([line], [comparison], remarks)


async def _turn(lab: Lab, flood: int) -> Figures:
    rabbitmq = await lab.rabbitmq()
    await rabbitmq.delete_queues()
    async with shop(lab) as url:
        async with (
            lab.service(url, "worker", rabbitmq=rabbitmq),
            _Customers.connected(rabbitmq.url) as customers,
        ):
            replied = (await customers.order(flood)).replied.values()
            highest = len(replied) / (max(replied) - min(replied))
            steady = lab.size.rows(round(_SECONDS * highest / 2), least=200)
            stream = await customers.order(steady, per_second=highest / 2)
        await check_invariants(url)
    waits = [1000 * (at - stream.due[id]) for id, at in stream.replied.items()]
    percentiles = quantiles(waits, n=100)
    return {
        HIGHEST: highest,
        RATE: highest / 2,
        P50: percentiles[49],
        P99: percentiles[98],
        WORST: max(waits),
    }


class _Times:
    """When each order was due to be sent, and when its reply came, by its message id."""

    def __init__(self) -> None:
        self.due: dict[str, float] = {}
        self.replied: dict[str, float] = {}


class _Customers:
    def __init__(self, exchange: AbstractExchange, reply_to: str) -> None:
        self._exchange = exchange
        self._reply_to = reply_to
        self._times = _Times()

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncIterator["_Customers"]:
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel(publisher_confirms=False)
            await channel.declare_queue("order", durable=True)
            replies = await channel.declare_queue(exclusive=True)
            customers = cls(channel.default_exchange, replies.name)
            await replies.consume(customers._receive, no_ack=True)
            yield customers

    async def order(self, count: int, per_second: float = 0) -> _Times:
        """Send this many orders, at once or evenly spaced, and wait for the replies."""
        times = self._times = _Times()
        run, began = uuid4().hex, time.perf_counter()
        for number in range(count):
            due = began + number / per_second if per_second else time.perf_counter()
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            id = f"{run}-{number}"
            times.due[id] = due
            order = message(id, reply_to=self._reply_to, correlation_id=id)
            await self._exchange.publish(order, "order")
        await eventually(lambda: len(times.replied) == count, seconds=300)
        return times

    async def _receive(self, reply: AbstractIncomingMessage) -> None:
        self._times.replied[reply.correlation_id or ""] = time.perf_counter()
