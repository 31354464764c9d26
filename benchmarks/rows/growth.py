"""Whether costs grow with the tables, and what a second process costs."""

from contextlib import AsyncExitStack

from benchmarks import data
from benchmarks.lab import CPU, POSTGRES_CPU, RATE, Lab, Web
from benchmarks.load import Load
from benchmarks.results import (
    Comparison,
    Figures,
    Line,
    RowResult,
    Turn,
    at_least,
    at_most,
    compare,
)
from benchmarks.rows import orders
from benchmarks.rows.cached_reads import warm
from harness.invariants import check_invariants

FEW, MANY = "small tables", "large tables"
ONE, TWO = "one", "two"
_FEW, _MANY, _MESSAGES = 1000, 1_000_000, 10_000
_KEYS = 1000
_CONNECTIONS = 64


async def measure(lab: Lab) -> RowResult:
    comparisons = [*await _growth(lab), *await _second_process(lab)]
    remarks = [
        f"The large tables start with {lab.size.rows(_MANY, least=_FEW):,} orders, the small ones, "
        f"which are new in every round, with {_FEW:,}. "
        f"A turn adds {lab.size.rows(_MESSAGES, least=1000):,}.",
        "PostgreSQL, RabbitMQ and the load generator run on the same cores, so a second process "
        "cannot double a rate here. What it must not do is cost more.",
        f"Each web process gets {_CONNECTIONS} connections, so that two of them save as much as "
        "one by handling concurrent requests together.",
        "The invariants were checked after the orders, and held.",
    ]
    return RowResult(_lines(*comparisons), comparisons, remarks)


def _lines(
    placed: Comparison, read: Comparison, consumers: Comparison, webs: Comparison
) -> list[Line]:
    within = at_most(1.1)
    return [
        Line(
            f"Orders/s, {MANY} / {FEW}",
            placed.ratios(orders.RATE, MANY, FEW),
            must=at_least(0.9),
        ),
        Line(f"CPU per cached read, {MANY} / {FEW}", read.ratios(CPU, MANY, FEW), must=within),
        Line(
            "Orders/s, two consumers / one",
            consumers.ratios(orders.RATE, TWO, ONE),
            aim=at_least(1.6),
        ),
        Line("Consumer CPU per order, two consumers / one", consumers.ratios(orders.CPU, TWO, ONE)),
        Line(
            "PostgreSQL CPU per order, two consumers / one",
            consumers.ratios(POSTGRES_CPU, TWO, ONE),
        ),
        Line("CPU per cached read, two web processes / one", webs.ratios(CPU, TWO, ONE), within),
        Line("Cached reads/s, two web processes / one", webs.ratios(RATE, TWO, ONE)),
    ]


async def _growth(lab: Lab) -> tuple[Comparison, Comparison]:
    few, many = data.orders(_FEW), data.orders(lab.size.rows(_MANY, least=_FEW))
    async with lab.database(many) as large, lab.database(few) as small:
        turns: dict[str, Turn] = {
            FEW: lambda: _orders_in_new_tables(lab),
            MANY: lambda: _orders(lab, large, workers=1),
        }
        placed = await compare("Orders placed in", turns, lab.size.rounds)
        await check_invariants(large)
        async with lab.web(small) as first:
            await warm(lab, first)  # the second has the same users, so both may share the cache
            async with lab.web(large) as second:
                turns = {FEW: _reads(lab, first), MANY: _reads(lab, second)}
                read = await compare("GET /users/{id}, cached, with", turns, lab.size.rounds)
    return placed, read


async def _second_process(lab: Lab) -> tuple[Comparison, Comparison]:
    turns: dict[str, Turn] = {
        ONE: lambda: _orders_in_new_tables(lab),
        TWO: lambda: _orders_in_new_tables(lab, workers=2),
    }
    consumers = await compare("Consumers of one queue", turns, lab.size.rounds)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(lab.database(data.shop(products=_KEYS)))
        one, other, another = [await stack.enter_async_context(lab.web(url)) for _ in range(3)]
        await warm(lab, one)
        both = Web(other.ports + another.ports, other.pids + another.pids)
        turns = {ONE: _reads(lab, one), TWO: _reads(lab, both)}
        webs = await compare("Web processes, cached reads", turns, lab.size.rounds)
    return consumers, webs


async def _orders_in_new_tables(lab: Lab, workers: int = 1) -> Figures:
    async with lab.database(data.orders(_FEW)) as url:
        figures = await _orders(lab, url, workers)
        await check_invariants(url)
    return figures


async def _orders(lab: Lab, url: str, workers: int) -> Figures:
    return await orders.consume(lab, url, lab.size.rows(_MESSAGES, least=1000), workers)


def _reads(lab: Lab, web: Web) -> Turn:
    load = Load("/users/{n}", count=_KEYS, connections=_CONNECTIONS * len(web.ports))
    return lambda: lab.burst(load, web)
