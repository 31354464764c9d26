"""What one order, one read and one row of a report cost in each part: see docs/scaling.md."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from benchmarks import data
from benchmarks.lab import RATE, Lab
from benchmarks.load import Load, generate
from benchmarks.messages import an_order, publish
from benchmarks.results import Comparison, Figures, RowResult, Turn, compare
from benchmarks.usage import CoreMeter, Meter
from benchmarks.wire import bytes_exchanged
from harness.databases import connected
from harness.rabbitmq import RabbitMQ
from harness.service import Service
from harness.waiting import eventually

SERVICE, POSTGRES, RABBITMQ, VALKEY = (
    f"{part} CPU µs" for part in ("service", "PostgreSQL", "RabbitMQ", "Valkey")
)
WAL, TABLES = "bytes of WAL", "bytes of tables and indexes"
TO_POSTGRES, TO_VALKEY, TO_RABBITMQ = (
    f"bytes to and from {part}" for part in ("PostgreSQL", "Valkey", "RabbitMQ")
)
BUSY = "cores busy"
QUEUED, POSTED, CACHED, WRITTEN, REPORTED = (
    "an order from the queue, 3 lines",
    "POST /orders, 3 lines",
    "GET /users/{id}, cached",
    "PUT /users/{id}",
    "a row of the nightly report, with its message",
)
_ORDERS, _QUEUED, _WARM = 100_000, 5_000, 500
_USERS = 1000
_SIZES = "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r'"
_WAL = "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"
Act = Callable[[], Awaitable[int]]


async def measure(lab: Lab) -> RowResult:
    orders = lab.size.rows(_ORDERS, least=1000)
    rabbitmq = await lab.rabbitmq()
    async with (
        lab.database(data.orders(orders)) as url,
        lab.service(url, "web", "worker", rabbitmq=rabbitmq) as service,
    ):
        comparison = await _compare(_Shop(lab, service, rabbitmq, url))
    remarks = [
        "Each is measured alone: the CPU time of all processes of a part, divided by how many "
        "there were. The load generator is not in it, and neither is the kernel's work for the "
        "network outside of the processes. The rate is of a closed loop on the same cores, so it "
        "is less than a machine of its own would give.",
        "Bytes are those over the service's own connections, both ways, without the headers of "
        "TCP. WAL has whole pages after a checkpoint; there was one before each turn, and a "
        "warm-up after it.",
        f"The report is of {orders:,} orders.",
    ]
    return RowResult([], [comparison], remarks)


async def _compare(shop: "_Shop") -> Comparison:
    turns: dict[str, Turn] = {
        name: lambda act=act, warm=warm: shop.bill(act, warm)  # type: ignore[misc]
        for name, (act, warm) in {
            QUEUED: (shop.from_queue, lambda: shop.from_queue(_WARM)),
            POSTED: (shop.posted, shop.posted),
            CACHED: (shop.cached, shop.cached),
            WRITTEN: (shop.written, shop.written),
            REPORTED: (shop.reported, shop.unreported),
        }.items()
    }
    return await compare("Each", turns, shop.lab.size.rounds, warm_up=False)


@dataclass(frozen=True)
class _Shop:
    lab: Lab
    service: Service
    rabbitmq: RabbitMQ
    url: str

    @property
    def _pids(self) -> tuple[int, int]:
        return self.service.web.pid, self.service.worker.pid

    async def bill(self, act: Act, warm: Act) -> Figures:
        async with connected(self.lab.databases.admin_url(self.url)) as connection:
            await connection.execute("CHECKPOINT", timeout=60)
        await warm()
        before = await self._counts()
        meters = {
            SERVICE: Meter(*self._pids),
            POSTGRES: Meter(self.lab.postgres.pid),
            RABBITMQ: Meter(self.rabbitmq.node.pid),
            VALKEY: Meter(self.lab.valkey.pid),
        }
        cores, began = CoreMeter(), time.perf_counter()
        count = await act()
        seconds, busy = time.perf_counter() - began, cores.busy_cores
        spent = {name: meter.seconds * 1e6 / count for name, meter in meters.items()}
        after = await self._counts()
        used = {name: (after[name] - before[name]) / count for name in before}
        return {RATE: count / seconds, BUSY: busy, **spent, **used}

    async def _counts(self) -> Figures:
        async with connected(self.url) as connection:
            names = {WAL: _WAL, TABLES: _SIZES}
            counts = {name: float(await connection.fetchval(q)) for name, q in names.items()}
        ports = {
            TO_POSTGRES: self.lab.postgres.port,
            TO_VALKEY: self.lab.valkey.port,
            TO_RABBITMQ: self.rabbitmq.port,
        }
        return counts | {
            name: float(bytes_exchanged(self._pids, port)) for name, port in ports.items()
        }

    async def from_queue(self, count: int = 0) -> int:
        count = count or self.lab.size.rows(_QUEUED, least=200)
        query = "SELECT count(*) FROM messages"
        async with connected(self.url) as connection:
            wanted = await connection.fetchval(query) + count
            await publish(self.rabbitmq.url, "order", count)

            async def are_settled() -> bool:
                return bool(await connection.fetchval(query) >= wanted)

            await eventually(are_settled, 120)
        return count

    async def posted(self) -> int:
        order = json.dumps(an_order())
        return await self._burst(Load("/orders", "POST", order, connections=32))

    async def cached(self) -> int:
        return await self._burst(Load("/users/{n}", count=_USERS))

    async def written(self) -> int:
        body = '{"description": "Designer"}'
        load = Load("/users/{n}", "PUT", body, count=_USERS, connections=32)
        return await self._burst(load)

    async def _burst(self, load: Load) -> int:
        return (await generate(load, [self.service.port], self.lab.size.seconds)).total

    async def unreported(self) -> int:
        async with connected(self.lab.databases.admin_url(self.url)) as connection:
            await connection.execute("TRUNCATE reports, report_runs, outbox CASCADE")
        return 0

    async def reported(self) -> int:
        path = f"/report?report_date={data.yesterday()}"
        async with httpx.AsyncClient(
            base_url=self.service.url, trust_env=False, timeout=120
        ) as client:
            made: Any = (await client.post(path)).raise_for_status().json()
        async with connected(self.url) as connection:

            async def are_sent() -> bool:
                return not await connection.fetchval("SELECT count(*) FROM outbox")

            await eventually(are_sent, 60)
        return int(made["created"])
