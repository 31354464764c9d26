"""What web processes cost: two of them, started with WEB_CONCURRENCY=2, beside one."""

from contextlib import AsyncExitStack

from benchmarks import data
from benchmarks.lab import CPU, RATE, Lab, Web
from benchmarks.load import Load
from benchmarks.results import Line, RowResult, Turn, at_most, compare
from benchmarks.rows.cached_reads import warm

ONE, TWO = "one", "two"
_KEYS = 1000
_CONNECTIONS = 64


async def measure(lab: Lab) -> RowResult:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(lab.database(data.shop(products=_KEYS)))
        one = await stack.enter_async_context(lab.web(url))
        two = await stack.enter_async_context(lab.web(url, WEB_CONCURRENCY="2"))
        await warm(lab, one)
        await warm(lab, two)
        turns = {ONE: _reads(lab, one, 1), TWO: _reads(lab, two, 2)}
        reads = await compare("Web processes, cached reads", turns, lab.size.rounds)
    lines = [
        Line(
            "CPU per cached read, two web processes / one",
            reads.ratios(CPU, TWO, ONE),
            must=at_most(1.1),
        ),
        Line("Cached reads/s, two web processes / one", reads.ratios(RATE, TWO, ONE)),
    ]
    remarks = [
        "Two are one command on one port, and their parent is in the figure.",
        "Valkey and the load generator run on the same cores, so a second process cannot double a "
        "rate here. What it must not do is cost more.",
        f"There are {_CONNECTIONS} connections for each process, so that two of them save as much "
        "as one by handling concurrent requests together.",
    ]
    return RowResult(lines, [reads], remarks)


def _reads(lab: Lab, web: Web, processes: int) -> Turn:
    load = Load("/users/{n}", count=_KEYS, connections=_CONNECTIONS * processes)
    return lambda: lab.burst(load, web)
