"""Whether costs grow with the tables, and what a second consumer costs."""

from benchmarks import data
from benchmarks.lab import CPU, POSTGRES_CPU, Lab, Web
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
    comparisons = [*await _growth(lab), await _second_consumer(lab)]
    remarks = [
        f"The large tables start with {lab.size.rows(_MANY, least=_FEW):,} orders, the small ones, "
        f"which are new in every round, with {_FEW:,}. "
        f"A turn adds {lab.size.rows(_MESSAGES, least=1000):,}.",
        "PostgreSQL and RabbitMQ run on the same cores, so a second consumer cannot double a rate "
        "here. What it must not do is cost more.",
        "The invariants were checked after the orders, and held.",
    ]
    return RowResult(_lines(*comparisons), comparisons, remarks)


def _lines(placed: Comparison, read: Comparison, consumers: Comparison) -> list[Line]:
    return [
        Line(
            f"Orders/s, {MANY} / {FEW}",
            placed.ratios(orders.RATE, MANY, FEW),
            must=at_least(0.9),
        ),
        Line(
            f"CPU per cached read, {MANY} / {FEW}",
            read.ratios(CPU, MANY, FEW),
            must=at_most(1.1),
        ),
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


async def _second_consumer(lab: Lab) -> Comparison:
    turns: dict[str, Turn] = {
        ONE: lambda: _orders_in_new_tables(lab),
        TWO: lambda: _orders_in_new_tables(lab, workers=2),
    }
    return await compare("Consumers of one queue", turns, lab.size.rounds)


async def _orders_in_new_tables(lab: Lab, workers: int = 1) -> Figures:
    async with lab.database(data.orders(_FEW)) as url:
        figures = await _orders(lab, url, workers)
        await check_invariants(url)
    return figures


async def _orders(lab: Lab, url: str, workers: int) -> Figures:
    return await orders.consume(lab, url, lab.size.rows(_MESSAGES, least=1000), workers)


def _reads(lab: Lab, web: Web) -> Turn:
    load = Load("/users/{n}", count=_KEYS, connections=_CONNECTIONS)
    return lambda: lab.burst(load, web)
