"""200 clients that connect at once, beside 512 connections that are busy with cached reads."""

import asyncio
from contextlib import AsyncExitStack

from benchmarks import data
from benchmarks.lab import Lab, Web
from benchmarks.load import Load, generate
from benchmarks.results import Comparison, Figures, Line, RowResult, at_most, compare
from benchmarks.rows.cached_reads import CONSTANT, OURS, warm
from benchmarks.rows.overload import newcomer

P99, LAST, RATIO = "p99 of the busy, ms", "last newcomer, ms", "last / p99"
_BUSY, _NEW, _KEYS = 512, 200, 1000


async def measure(lab: Lab) -> RowResult:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(lab.database(data.shop(products=_KEYS)))
        ours = await stack.enter_async_context(lab.web(url))
        bare = await stack.enter_async_context(lab.peer("asgi", url))
        await warm(lab, ours)
        turns = {
            OURS: lambda: _take(lab, ours, "/users", "/health/live"),
            CONSTANT: lambda: _take(lab, bare, "/constant", "/constant/1"),
        }
        title = f"{_NEW} newcomers beside {_BUSY}"
        comparison = await compare(title, turns, lab.size.rounds)
    remarks = [
        "The busy ones read 1,000 cached users and are connected for seconds when the newcomers "
        "come. A newcomer connects, asks /health/live (the peer: its constant) and closes.",
    ]
    return RowResult(_lines(comparison), [comparison], remarks)


async def _take(lab: Lab, web: Web, busy: str, new: str) -> Figures:
    load = Load(busy + "/{n}", count=_KEYS, connections=_BUSY)
    running = asyncio.create_task(generate(load, web.ports, lab.size.seconds + 3))
    await asyncio.sleep(3)
    waits = await asyncio.gather(*(newcomer(web.ports[0], new) for _ in range(_NEW)))
    p99 = (await running).p99
    return {P99: p99 * 1000, LAST: max(waits) * 1000, RATIO: max(waits) / p99}


def _lines(comparison: Comparison) -> list[Line]:
    what = f"The last of {_NEW} newcomers / p99 of the {_BUSY} others"
    return [
        Line(what, comparison.values(OURS, RATIO), must=at_most(3), aim=at_most(1.5)),
        Line(f"{what}: {CONSTANT}", comparison.values(CONSTANT, RATIO)),
    ]
