"""The nightly report of a large day, from the worker's start to the last message of the report."""

import re
from datetime import datetime
from math import ceil

from app.repositories.reports import ROWS_PER_MESSAGE
from benchmarks import data
from benchmarks.lab import POSTGRES_CPU, Lab
from benchmarks.results import Comparison, Figures, Line, RowResult, at_most, compare
from benchmarks.usage import Meter, highest_peak
from harness.databases import connected
from harness.processes import Process, run
from harness.waiting import eventually

OURS, PSQL = "this service", "INSERT … SELECT … GROUP BY in psql"
BUILD, SEND, PEAK = "seconds to build", "seconds to send", "peak MB of the worker"
_ORDERS = 1_000_000
_TIMEOUT = 300
_INSERT = """
INSERT INTO reports (report_at, order_id, count_product)
SELECT '{day}', o.id, sum(i.quantity) FROM orders o JOIN order_items i ON i.order_id = o.id
WHERE o.ordered_at >= '{day} 00:00Z' AND o.ordered_at < TIMESTAMPTZ '{day} 00:00Z' + INTERVAL '1 day'
GROUP BY o.id
"""


async def measure(lab: Lab) -> RowResult:
    count = lab.size.rows(_ORDERS, least=1000)
    async with lab.database(data.orders(count)) as url:
        turns = {OURS: lambda: _ours(lab, url, count), PSQL: lambda: _psql(lab, url, count)}
        comparison = await compare(f"{count:,} orders, {3 * count:,} lines", turns, lab.size.rounds)
    messages = ceil(count / ROWS_PER_MESSAGE)
    remarks = [
        "The TaskIQ worker starts while a day is owed, and builds it as it does every night. The "
        "time to build is from its first log line to its second. It includes locking and closing "
        f"the report run, and writing {messages} messages to the outbox, which psql does not do.",
        "The time to send is from then to RabbitMQ's confirmation of the last message.",
        "TaskIQ imports FastAPI where it finds it, as it does here beside the peers: 5 MB of the "
        "peak.",
    ]
    return RowResult(_lines(comparison), [comparison], remarks)


def _lines(comparison: Comparison) -> list[Line]:
    ratios = comparison.ratios(BUILD, OURS, PSQL)
    peaks = comparison.values(OURS, PEAK)
    return [
        Line("Time to build the report, ours / psql", ratios, must=at_most(1.15), aim=at_most(1.1)),
        Line(
            "PostgreSQL CPU, ours with the messages / psql",
            comparison.ratios(POSTGRES_CPU, OURS, PSQL),
        ),
        Line("Peak memory of the worker", peaks, must=at_most(110), unit="MB"),
    ]


async def _delete_reports(lab: Lab, url: str) -> None:
    async with connected(lab.databases.admin_url(url)) as connection:
        await connection.execute("TRUNCATE reports, report_runs, outbox CASCADE")
        await connection.execute("CHECKPOINT", timeout=60)


async def _ours(lab: Lab, url: str, count: int) -> Figures:
    await _delete_reports(lab, url)
    rabbitmq = await lab.rabbitmq()
    await rabbitmq.delete_queues()
    messages = ceil(count / ROWS_PER_MESSAGE)
    async with lab.service(url, rabbitmq=rabbitmq) as service:
        worker, postgres = service.taskiq_worker, Meter(lab.postgres.pid)
        worker.start()
        await eventually(lambda: _sent(worker) >= messages, _TIMEOUT, lambda: worker.output)
        peak, seconds = highest_peak(worker.pid), postgres.seconds
        began, built, *sent = _timestamps(worker)
    await _check(url, count)
    return {
        BUILD: (built - began).total_seconds(),
        SEND: (sent[-1] - built).total_seconds(),
        PEAK: peak,
        POSTGRES_CPU: seconds / count * 1e6,
    }


def _sent(worker: Process) -> int:
    assert worker.running, worker.output
    return worker.output.count("Sent report message")


def _timestamps(worker: Process) -> list[datetime]:
    """When the lines about the report were logged: start, built, then one per message sent."""
    lines = re.findall(r".*(?:Starting report|Created \d+ reports|Sent report).*", worker.output)
    found = [re.search(r'"timestamp": "([^"]+)"', line) for line in lines]
    return [datetime.fromisoformat(match[1]) for match in found if match]


async def _psql(lab: Lab, url: str, count: int) -> Figures:
    await _delete_reports(lab, url)
    insert = _INSERT.format(day=data.yesterday())
    command = lab.psql(url, "-c", r"\timing on", "-c", insert)
    postgres = Meter(lab.postgres.pid)
    output = await run(lab.process("psql", *command), seconds=_TIMEOUT)
    seconds = postgres.seconds
    timing = re.search(r"Time: ([\d.]+) ms", output)
    assert timing, output
    await _check(url, count)
    return {BUILD: float(timing[1]) / 1000, POSTGRES_CPU: seconds / count * 1e6}


async def _check(url: str, count: int) -> None:
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM reports") == count
