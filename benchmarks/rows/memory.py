"""The resident memory of the processes after they have worked."""

from benchmarks import data
from benchmarks.lab import Lab, Web
from benchmarks.load import Load
from benchmarks.messages import publish
from benchmarks.results import Comparison, Line, RowResult, at_most
from benchmarks.usage import peak, process_tree, resident
from harness.databases import connected
from harness.service import Service
from harness.waiting import eventually

RESIDENT, PEAK = "resident MB", "peak MB"
WEB = "web"
OTHERS = ("worker", "scheduler", "TaskIQ worker", "TaskIQ worker, child")
_ORDERS = 10_000
_REPORTED = 100_000
_USER = '{"username": "new{n}", "email": "new{n}@example.com"}'


async def measure(lab: Lab) -> RowResult:
    """One service has all the processes, so a round measures all of them at once."""
    orders, reported = lab.size.rows(_ORDERS, least=500), lab.size.rows(_REPORTED, least=500)
    comparison = Comparison("After load", {name: [] for name in (WEB, *OTHERS)})
    for _ in range(lab.size.rounds):
        async with lab.database(data.orders(reported)) as url:
            await _take_turn(lab, url, orders, comparison)
    lines = [
        Line(
            f"Resident memory after load, {name}",
            comparison.values(name, RESIDENT),
            must=limit,
            unit="MB",
        )
        for name in comparison.results
        for limit in [at_most(130 if name == WEB else 110)]
    ]
    remarks = [
        "By then the web process has served reads with and without the cache, lists, writes, and "
        f"GET /report of {reported:,} rows, up to 64 requests at once; the worker has settled "
        f"{orders:,} orders; the TaskIQ worker has built and sent the report.",
        "TaskIQ imports FastAPI where it finds it, as it does here beside the peers: 5 MB of the "
        "scheduler and of the TaskIQ worker's child.",
    ]
    return RowResult(lines, [comparison], remarks)


async def _take_turn(lab: Lab, url: str, orders: int, comparison: Comparison) -> None:
    rabbitmq = await lab.rabbitmq()
    await rabbitmq.delete_queues()
    names = ("web", "worker", "scheduler", "taskiq_worker")
    async with lab.service(url, *names, rabbitmq=rabbitmq) as service:
        await publish(rabbitmq.url, "order", orders)
        await _serve(lab, Web((service.port,), (service.web.pid,)))
        await _settled(url, orders)
        for name, pid in _pids(service).items():
            comparison.results[name].append({RESIDENT: resident(pid), PEAK: peak(pid)})


async def _serve(lab: Lab, web: Web) -> None:
    for load in (
        Load("/users/{n}", count=1000),
        Load("/products/{n}", count=1000),
        Load("/users?count=100&page={n}", count=10, connections=8),
        Load("/orders?count=100&page={n}", count=10, connections=8),
        Load("/users", method="POST", body=_USER, count=1_000_000, connections=8),
        Load(f"/report?report_date={data.yesterday()}", connections=4),
    ):
        await lab.burst(load, web)


async def _settled(url: str, orders: int) -> None:
    """Wait until the queues are worked off, and the report is built and sent."""
    query = """
        SELECT (SELECT count(*) FROM messages) = $1
            AND EXISTS (SELECT FROM reports) AND NOT EXISTS (SELECT FROM outbox)
    """
    async with connected(url) as connection:
        await eventually(lambda: connection.fetchval(query, orders), seconds=120)


def _pids(service: Service) -> dict[str, int]:
    processes = (service.web, service.worker, service.scheduler, service.taskiq_worker)
    _, *children = [process.pid for process in process_tree(service.taskiq_worker.pid)]
    pids = [*(process.pid for process in processes), max(children, key=resident)]
    return dict(zip((WEB, *OTHERS), pids, strict=True))
