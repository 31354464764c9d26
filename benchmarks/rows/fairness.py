"""The one-process mode: orders from the queue beside HTTP, on one event loop."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from faststream.redis import BinaryMessageFormatV1
from redis.asyncio import Redis

from app import state_file
from app.embedded import Valkey
from app.queues import Queue
from benchmarks import data
from benchmarks.lab import Lab, Web
from benchmarks.load import Load, generate
from benchmarks.messages import an_order
from benchmarks.results import Comparison, Figures, Line, RowResult, Turn, at_least, compare
from harness.service import one_command
from harness.waiting import eventually

ORDERS, WRITES, READS = "orders alone", "128 writers alone", "64 readers alone"
WITH_WRITES, WITH_READS = "orders beside 128 writers", "orders beside 64 readers"
ORDER_RATE, RATE = "orders/s", "successes/s"
_WRITERS, _READERS, _KEYS = 128, 64, 100
# More than can be placed in a turn: what is left is deleted.
_FLOOD = 40_000
_CHUNK = 2000
_USER = '{"username": "new{n}", "email": "new{n}@example.com", "description": "Designer"}'
_FIRST_NUMBERS = itertools.count(1_000_000, 1_000_000)


async def measure(lab: Lab) -> RowResult:
    directory = lab.folder("one-process")
    async with one_command(lab.tree, directory) as service:
        assert service.web.pid
        web = Web((service.port,), (service.web.pid,))
        state = state_file.read(directory / "data")
        await data.shop()(state["database_url"])
        valkey = Valkey(directory / "data", state["redis_port"])
        async with Redis(port=valkey.port, password=valkey.password, db=1) as redis:
            turns: dict[str, Turn] = {
                ORDERS: lambda: _take(lab, web, redis),
                WRITES: lambda: _take(lab, web, None, _writes),
                WITH_WRITES: lambda: _take(lab, web, redis, _writes),
                READS: lambda: _take(lab, web, None, _reads),
                WITH_READS: lambda: _take(lab, web, redis, _reads),
            }
            comparison = await compare("One process", turns, lab.size.rounds)
    remarks = [
        "`python main.py` with nothing configured. More orders of 3 lines wait in the stream than "
        "are placed; the rate is that of the entries that are settled. The readers read 100 cached "
        "users; the writers are not stopped by a 503.",
    ]
    return RowResult(_lines(comparison), [comparison], remarks)


def _writes() -> Load:
    first = next(_FIRST_NUMBERS)
    return Load("/users", "POST", _USER, first, 1_000_000, _WRITERS, is_flood=True)


def _reads() -> Load:
    return Load("/users/{n}", count=_KEYS, connections=_READERS)


async def _take(
    lab: Lab, web: Web, redis: Redis | None, load: Callable[[], Load] | None = None
) -> Figures:
    """Orders, or a load of HTTP requests, or both."""
    if redis:
        await _fill(redis)
    http = asyncio.create_task(generate(load(), web.ports, lab.size.seconds)) if load else None
    figures: Figures = {}
    if redis:
        figures[ORDER_RATE] = await _rate(lab, redis)
    if http:
        responses = await http
        figures[RATE] = responses.goodput
    if redis:
        await redis.xtrim(Queue.ORDER, maxlen=0, approximate=False)
        await eventually(lambda: _is_settled(redis), 60)
    return figures


async def _rate(lab: Lab, redis: Redis) -> float:
    """While the HTTP clients are connected and busy: not in the first and the last seconds."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(lab.size.seconds / 4)
    began, before = loop.time(), await redis.xlen(Queue.ORDER)
    await asyncio.sleep(lab.size.seconds / 2)
    after = await redis.xlen(Queue.ORDER)
    assert after, "the orders were too few"
    return float((before - after) / (loop.time() - began))


async def _fill(redis: Redis) -> None:
    for _ in range(_FLOOD // _CHUNK):
        async with redis.pipeline(transaction=False) as pipe:
            for _ in range(_CHUNK):
                pipe.xadd(Queue.ORDER, {"__data__": await _envelope(an_order())})
            await pipe.execute()


async def _envelope(order: dict[str, Any]) -> bytes:
    message_id = uuid4().hex
    return await BinaryMessageFormatV1.encode(
        message=order,
        reply_to="",
        headers={"message_id": message_id},
        correlation_id=message_id,
    )


async def _is_settled(redis: Redis) -> bool:
    """What was read before the stream was emptied is still worked on."""
    pending = await redis.xpending(Queue.ORDER, "order-service")
    return not pending["pending"]


def _lines(comparison: Comparison) -> list[Line]:
    def share(figure: str, beside: str, alone: str) -> Line:
        values = comparison.ratios(figure, beside, alone)
        return Line(f"{figure}: {beside} / {alone}", values, must=at_least(0.4), aim=at_least(0.5))

    return [
        share(ORDER_RATE, WITH_WRITES, ORDERS),
        share(ORDER_RATE, WITH_READS, ORDERS),
        Line(
            f"writers' {RATE}: {WITH_WRITES} / {WRITES}",
            comparison.ratios(RATE, WITH_WRITES, WRITES),
        ),
        share(RATE, WITH_READS, READS),
    ]
