"""`producer.py --data`: 18,000 orders of 400,000 lines, and 4,338 customers, to one web and one
worker process."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.lab import POSTGRES_CPU, Lab
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
from benchmarks.usage import Meter, peak, processor_seconds
from harness.databases import connected
from harness.invariants import check_invariants
from harness.processes import Process, run
from harness.service import PYTHON, Service

WHOLE, TENTH = "all orders", "a tenth of them"
RATE, PEAK = "orders/s", "peak MB of producer.py"
PRODUCER_CPU, WORKER_CPU = "producer.py CPU µs per order", "worker CPU µs"
_ORDERS, _LINES = 18_000, 400_000
_CUSTOMERS, _PRODUCTS = 100, 1000
ALONE, ONE_BY_ONE = "producer.py", "one request after another"
CUSTOMERS_RATE, WEB_CPU = "customers/s", "web CPU µs"
_MANY_CUSTOMERS = 4338
_TIMEOUT = 540


async def measure(lab: Lab) -> RowResult:
    orders = lab.size.rows(_ORDERS, least=200)
    turns = {
        WHOLE: lambda: _load(lab, orders),
        TENTH: lambda: _load(lab, orders // 10),
    }
    comparison = await compare(
        f"{orders:,} orders, {_lines_before(orders):,} lines",
        turns,
        lab.size.rounds,
        warm_up=False,
    )
    remarks = [
        f"The same command also loads {_CUSTOMERS} users with an address and {_PRODUCTS:,} "
        "products, which the figures include. CPU is from the start of the program to its end.",
        "Where the worker and PostgreSQL spend more on an order than producer.py does, the "
        "consumer is the bottleneck; producer.py never has more than 256 messages without a reply.",
    ]
    people = await _compare_customers(lab)
    speed = people.ratios(CUSTOMERS_RATE, ALONE, ONE_BY_ONE)
    line = Line("Users with an address, /s, ours / one by one", speed, must=at_least(5))
    return RowResult([*_promises(comparison), line], [comparison, people], remarks)


async def _compare_customers(lab: Lab) -> Comparison:
    count = lab.size.rows(_MANY_CUSTOMERS, least=20)
    files = lab.folder("customers")
    _write_all(files, 0, count)

    def ours(service: Service) -> Process:
        return service.process("producer", PYTHON, "producer.py", "--data", files)

    def one_by_one(service: Service) -> Process:
        program = ("-m", "benchmarks.peers.one_by_one")
        return lab.process("one_by_one", PYTHON, *program, service.url, files)

    turns: dict[str, Turn] = {
        ALONE: lambda: _load_customers(lab, count, ours),
        ONE_BY_ONE: lambda: _load_customers(lab, count, one_by_one),
    }
    title = f"{count:,} users with an address"
    return await compare(title, turns, lab.size.rounds, warm_up=False)


async def _load_customers(lab: Lab, count: int, program: Callable[[Service], Process]) -> Figures:
    rabbitmq = await lab.rabbitmq()
    async with lab.databases.fresh() as url:
        async with lab.service(url, "web", rabbitmq=rabbitmq) as service:
            web, postgres = Meter(service.web.pid), Meter(lab.postgres.pid)
            began = time.perf_counter()
            await run(program(service), seconds=_TIMEOUT)
            figures = {
                CUSTOMERS_RATE: count / (time.perf_counter() - began),
                WEB_CPU: web.seconds / count * 1e6,
                POSTGRES_CPU: postgres.seconds / count * 1e6,
            }
        async with connected(url) as connection:
            assert await connection.fetchval("SELECT count(*) FROM addresses") == count
    return figures


def _promises(comparison: Comparison) -> list[Line]:
    consumers = [f[WORKER_CPU] + f[POSTGRES_CPU] for f in comparison.results[WHOLE]]
    shares = [
        f[PRODUCER_CPU] / c for f, c in zip(comparison.results[WHOLE], consumers, strict=True)
    ]
    peaks = comparison.ratios(PEAK, WHOLE, TENTH)
    return [
        Line("Peak memory of producer.py, all orders / a tenth", peaks, must=at_most(1.25)),
        Line("CPU, producer.py / worker + PostgreSQL", shares, must=at_most(1)),
    ]


def _lines_before(order: int) -> int:
    return order * _LINES // _ORDERS


async def _load(lab: Lab, orders: int) -> Figures:
    rabbitmq = await lab.rabbitmq()
    await rabbitmq.delete_queues()
    files = lab.folder("data")
    _write_all(files, orders, _CUSTOMERS)
    async with lab.databases.fresh() as url:
        async with lab.service(url, "web", "worker", rabbitmq=rabbitmq) as service:
            figures = await _run(lab, service, files, orders)
        await _check(url, orders)
    return figures


async def _run(lab: Lab, service: Service, files: Path, orders: int) -> Figures:
    worker, postgres = Meter(service.worker.pid), Meter(lab.postgres.pid)
    producer = service.process("producer", PYTHON, "producer.py", "--data", files)
    began = time.perf_counter()
    seconds, highest = await _run_and_watch(producer)
    return {
        RATE: orders / (time.perf_counter() - began),
        PEAK: highest,
        PRODUCER_CPU: seconds / orders * 1e6,
        WORKER_CPU: worker.seconds / orders * 1e6,
        POSTGRES_CPU: postgres.seconds / orders * 1e6,
    }


async def _run_and_watch(process: Process) -> tuple[float, float]:
    """CPU seconds and peak MB, polled while it runs: once it has ended they cannot be read."""
    seconds = highest = 0.0
    process.start()
    ending = asyncio.create_task(process.ends(_TIMEOUT))
    try:
        while not ending.done():
            seconds = max(seconds, processor_seconds(process.pid))
            highest = max(highest, peak(process.pid))
            await asyncio.sleep(0.05)
        assert await ending == 0, process.output
    finally:
        process.kill()
    return seconds, highest


async def _check(url: str, orders: int) -> None:
    await check_invariants(url)
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM orders") == orders
        lines = await connection.fetchval("SELECT count(*) FROM order_items")
        assert lines == _lines_before(orders)


def _write_all(directory: Path, orders: int, customers: int) -> None:
    users = [f"user{n}" for n in range(customers)]
    place = {"street": "Obere Str. 57", "city": "Berlin", "country": "Germany"}
    _write(
        directory / "users.jsonl",
        ({"username": name, "email": f"{name}@example.com"} for name in users),
    )
    _write(directory / "addresses.jsonl", ({"username": name, **place} for name in users))
    _write(
        directory / "products.jsonl",
        (
            {"sku": f"SKU-{n}", "name": f"Tea {n}", "price": "9.90", "stock_quantity": 1_000_000}
            for n in range(_PRODUCTS if orders else 0)
        ),
    )
    _write(directory / "orders.jsonl", (_order(n, random.choice(users)) for n in range(orders)))


def _order(number: int, username: str) -> dict[str, Any]:
    lines = _lines_before(number + 1) - _lines_before(number)
    products = random.sample(range(_PRODUCTS), lines)
    items = [{"sku": f"SKU-{id}", "quantity": 1 + id % 5} for id in products]
    return {"external_id": f"order-{number}", "username": username, "items": items}


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
