"""Orders of ten popular products through RabbitMQ, each committed and acknowledged."""

import asyncio
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg

from benchmarks import data
from benchmarks.lab import POSTGRES_CPU, Lab
from benchmarks.messages import depth, publish
from benchmarks.results import Comparison, Figures, Line, RowResult, Turn, at_least, compare
from benchmarks.usage import CoreMeter, Meter
from harness.databases import connected
from harness.invariants import check_invariants
from harness.processes import Process, finish, run
from harness.service import COMMANDS, PYTHON
from harness.waiting import eventually

OURS, ORM = "this service", "FastStream, one ORM transaction per message"
RATE, CPU, BUSY = "orders/s", "consumer CPU µs", "cores busy"
_COUNT = 10_000
_ORDERS_BEFORE = 1000
_ORM_SHARE = 4  # the slower peer with the ORM gets one message in four
_CONNECTIONS = (2, 4, 8)
_ORM_QUEUE = "orm_orders"
_ADDED = """
WITH added AS (
    SELECT created_at, min(created_at) OVER () AS first FROM orders WHERE id > $1
)
SELECT count(*) AS orders, count(*) FILTER (WHERE created_at > first)
    / extract(epoch FROM max(created_at) - min(first))::float AS rate
FROM added
"""


async def measure(lab: Lab) -> RowResult:
    count = lab.size.rows(_COUNT, least=1000)
    turns: dict[str, Turn] = {
        OURS: lambda: _ours(lab, count),
        ORM: lambda: _orm(lab, count // _ORM_SHARE),
        **{_loop(n): _loop_turn(lab, count, n) for n in _CONNECTIONS},
    }
    comparison = await compare("Orders of 3 lines", turns, lab.size.rounds, warm_up=False)
    remarks = [
        f"{count:,} messages wait in the queue when the consumer starts ({count // _ORM_SHARE:,} "
        "for the ORM). They are from 100 customers, for 3 of 10 products each. PostgreSQL has its "
        f"default durability, and {_ORDERS_BEFORE:,} earlier orders.",
        "The rate is measured from the first transaction to the last, by PostgreSQL's clock. At "
        "the end the queue is empty, every order is there, and the invariants hold.",
        "The bare loop makes up its orders itself: it has no queue and no acknowledgements, does "
        "not record messages, and does not check who owns the address.",
    ]
    return RowResult(_lines(comparison), [comparison], remarks)


def _loop(connections: int) -> str:
    return f"bare asyncpg loop, {connections} connections"


def _loop_turn(lab: Lab, count: int, connections: int) -> Turn:
    return lambda: _bare(lab, count, connections)


def _lines(comparison: Comparison) -> list[Line]:
    best = max(
        map(_loop, _CONNECTIONS), key=lambda name: statistics.median(comparison.values(name, RATE))
    )
    return [
        Line("Orders/s, ours / FastStream + ORM", comparison.ratios(RATE, OURS, ORM), at_least(5)),
        Line(
            f"Orders/s, ours / the best {best}",
            comparison.ratios(RATE, OURS, best),
            must=at_least(1.5),
            aim=at_least(2),
        ),
    ]


def shop(lab: Lab) -> AbstractAsyncContextManager[str]:
    """Not empty: a statement that was planned for empty tables stays slow when they fill up."""
    return lab.database(data.orders(_ORDERS_BEFORE))


async def _ours(lab: Lab, count: int) -> Figures:
    async with shop(lab) as url:
        figures = await consume(lab, url, count)
        await check_invariants(url)
    return figures


async def consume(lab: Lab, url: str, count: int, workers: int = 1) -> Figures:
    """The worker processes settle `count` messages that wait in the queue when they start."""
    rabbitmq = await lab.rabbitmq()
    async with lab.service(url, rabbitmq=rabbitmq) as service:
        processes = [
            service.process(f"worker{number}", *COMMANDS["worker"]) for number in range(workers)
        ]
        return await _drain(lab, url, ("order", count), processes, '"message": "consuming"')


async def _orm(lab: Lab, count: int) -> Figures:
    variables = {"RABBITMQ_URL": (await lab.rabbitmq()).url, "QUEUE": _ORM_QUEUE}
    command = (PYTHON, "-m", "benchmarks.peers.faststream_orm")
    async with shop(lab) as url:
        process = lab.process("faststream_orm", *command, url=url, **variables)
        figures = await _drain(lab, url, (_ORM_QUEUE, count), [process], "started successfully")
        await check_invariants(url)
    return figures


async def _drain(
    lab: Lab, url: str, work: tuple[str, int], consumers: Sequence[Process], ready: str
) -> Figures:
    queue, count = work
    rabbitmq = await lab.rabbitmq()
    await rabbitmq.delete_queues()
    await publish(rabbitmq.url, queue, count)
    async with connected(url) as connection:
        before = await _newest(connection)
        async with _running(consumers, ready):
            workers = Meter(*(consumer.pid for consumer in consumers))
            postgres, machine = Meter(lab.postgres.pid), CoreMeter()
            await eventually(lambda: _all_placed(connection, before, count), seconds=300)
            costs = {BUSY: machine.busy_cores, **_costs(workers.seconds, postgres.seconds, count)}
        figures = {RATE: await _rate(connection, before, count), **costs}
    assert await depth(rabbitmq.url, queue) == 0
    return figures


@asynccontextmanager
async def _running(consumers: Sequence[Process], ready: str) -> AsyncIterator[None]:
    for consumer in consumers:
        consumer.start()
    try:
        await asyncio.gather(*(consumer.says(ready) for consumer in consumers))
        yield
    finally:
        await finish(consumers)


async def _bare(lab: Lab, count: int, connections: int) -> Figures:
    command = (PYTHON, "-m", "benchmarks.peers.asyncpg_loop", str(count), str(connections))
    async with shop(lab) as url, connected(url) as connection:
        postgres, before = Meter(lab.postgres.pid), await _newest(connection)
        output = await run(lab.process("asyncpg_loop", *command, url=url), seconds=300)
        costs = _costs(float(output), postgres.seconds, count)
        rate = await _rate(connection, before, count)
        await check_invariants(url)
    return {RATE: rate, **costs}


def _costs(consumers: float, postgres: float, count: int) -> Figures:
    return {CPU: consumers / count * 1e6, POSTGRES_CPU: postgres / count * 1e6}


async def _newest(connection: "asyncpg.Connection[Any]") -> int:
    return int(await connection.fetchval("SELECT coalesce(max(id), 0) FROM orders"))


async def _all_placed(connection: "asyncpg.Connection[Any]", before: int, count: int) -> bool:
    """Counting is slow, so it looks at the newest id first."""
    if await _newest(connection) < before + count:
        return False
    query = "SELECT count(*) FROM orders WHERE id > $1"
    return bool(await connection.fetchval(query, before) == count)


async def _rate(connection: "asyncpg.Connection[Any]", before: int, count: int) -> float:
    """Leaves out the orders of the first transaction: the clock starts when they are committed."""
    added = await connection.fetchrow(_ADDED, before)
    assert added and added["orders"] == count
    return float(added["rate"])
