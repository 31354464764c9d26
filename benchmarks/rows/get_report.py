"""GET /report of a day with many orders."""

import asyncio
import time

from app.embedded.ports import LOOPBACK
from benchmarks import data
from benchmarks.lab import Lab, Web
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
from benchmarks.usage import peak, processor_seconds, reset_peak, resident

OURS, PSQL = "this service", "psql, json_agg to /dev/null"
TOTAL, FIRST, GROWTH, SIZE = "ms", "ms to the first byte", "MB of growth at the peak", "MB of JSON"
CPU = "server CPU ms"
_QUERY = """
SELECT json_agg(json_build_object('id', id, 'report_at', report_at, 'order_id', order_id,
    'count_product', count_product,
    'created_at', to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'))
    ORDER BY order_id)
FROM reports WHERE report_at = '{day}'
"""


async def measure(lab: Lab) -> RowResult:
    orders = lab.size.rows(100_000, least=100)
    async with lab.database(data.orders(orders, reported=True)) as url, lab.web(url) as web:
        turns = {OURS: _ours(web, orders), PSQL: _psql(lab, url)}
        comparison = await compare(f"report of {orders:,} orders", turns, lab.size.rounds)
    remarks = [
        "psql's time includes its start, which an empty statement would need too. The growth is "
        "the web process's peak memory, less what it had before the request.",
    ]
    return RowResult(_lines(comparison), [comparison], remarks)


def _ours(web: Web, orders: int) -> Turn:
    async def take() -> Figures:
        [pid] = web.pids
        reset_peak(pid)
        before, spent, began = resident(pid), processor_seconds(pid), time.perf_counter()
        first, body = await _get(web.ports[0], f"/report?report_date={data.yesterday()}")
        ended = time.perf_counter()
        assert body.count(b'"order_id"') == orders, body[:500]
        return {
            TOTAL: (ended - began) * 1e3,
            FIRST: (first - began) * 1e3,
            CPU: (processor_seconds(pid) - spent) * 1e3,
            GROWTH: max(peak(pid) - before, 0),
            SIZE: len(body) / 1e6,
        }

    return take


async def _get(port: int, path: str) -> tuple[float, bytes]:
    """The time of the first byte, and the whole response."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=1 << 20)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    parts = [await reader.read(1 << 20)]
    first = time.perf_counter()
    while part := await reader.read(1 << 20):
        parts.append(part)
    writer.close()
    return first, b"".join(parts)


def _psql(lab: Lab, url: str) -> Turn:
    command = lab.psql(url, "-qAt", "-c", _QUERY.format(day=data.yesterday()))

    async def take() -> Figures:
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *command, env={}, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0
        return {TOTAL: (time.perf_counter() - began) * 1e3}

    return take


def _lines(comparison: Comparison) -> list[Line]:
    speed = comparison.ratios(TOTAL, PSQL, OURS)
    growth = comparison.values(OURS, GROWTH)
    return [
        Line("speed of GET /report, ours / psql", speed, must=at_least(0.5)),
        Line("first byte", comparison.values(OURS, FIRST), aim=at_most(50), unit="ms"),
        Line("memory growth of the web process", growth, aim=at_most(10), unit="MB"),
    ]
