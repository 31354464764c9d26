"""All metrics. Each process shows what it has counted itself; in the one-process mode that is
everything. docs/monitoring.md has the table."""

import asyncio
import errno
import os
import time
from bisect import bisect_left
from collections import Counter as Counted
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog
from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
    values,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

log = structlog.get_logger(__name__)

# Set for each of several web processes: its number. Otherwise the library would name files after
# the process id, and each process that replaces another would leave more of them.
WEB_PROCESS = "WEB_PROCESS"
if number := os.environ.get(WEB_PROCESS):
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]


class Durations(Histogram):
    """A histogram that takes many values at once. With several web processes each of its numbers
    is in a file: `observe` writes two of them for every value."""

    def observe_all(self, seconds: Sequence[float]) -> None:
        buckets = Counted(bisect_left(self._upper_bounds, each) for each in seconds)
        for bucket, count in buckets.items():
            self._buckets[bucket].inc(count)
        self._sum.inc(sum(seconds))


HTTP_REQUESTS = Counter("http_requests_total", "HTTP responses", ["method", "route", "status"])
HTTP_SECONDS = Durations(
    "http_request_seconds",
    "Seconds from the request's head to the last byte of the response",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
HTTP_REFUSED = Counter(
    "http_requests_refused_total", "Requests refused, and not begun, because too many others waited"
)
HTTP_PLACES = Gauge(
    "http_places",
    "Requests that may work on the database at once, in all web processes together",
    multiprocess_mode="livesum",
)
DATABASE_CONNECTIONS = Gauge(
    "database_connections_in_use",
    "Connections of the pool that a request, a message or a loop has, looked at once a second",
    multiprocess_mode="livesum",
)
DATABASE_POOL = Gauge(
    "database_connections_most", "Connections that the pool may have", multiprocess_mode="livesum"
)
CACHE_READS = Counter("cache_reads_total", "Reads of cached rows", ["kind", "result"])
CACHE_INVALIDATIONS = Counter(
    "cache_invalidations_total",
    "Deletions in the cache after a commit, confirmed by Redis or not",
    ["result"],
)
MESSAGES = Counter("messages_total", "Queue messages, by outcome", ["queue", "outcome"])
MESSAGE_HOLDS = Counter(
    "message_holds_total", "Failed attempts after which a queue message was held", ["queue"]
)
PUBLISHED = Counter("published_total", "Outbox messages that the broker has confirmed", ["queue"])
ORDERS = Counter("orders_total", "Orders, accepted or refused", ["result"])
REPORT_ROWS = Counter("report_rows_total", "Report rows written")
LOG_LINES_DROPPED = Counter(
    "log_lines_dropped_total", "Log lines that nobody took in time, or that the disk did not"
)


# What the monitor finds out by asking the servers (services/monitor.py), and the label of each.
_FIGURES: Mapping[str, tuple[str, str | None]] = {
    "part_up": ("1 if a server or a queue is well, 0 if not, as in /health/ready", "part"),
    "queue_messages": ("Messages that wait in a queue; on streams, those in hand too", "queue"),
    "queue_consumers": ("Consumers of a queue of RabbitMQ, whoever they are", "queue"),
    "queue_oldest_seconds": ("Age of the oldest message of a queue; only on streams", "queue"),
    "dead_letters": ("Messages of a queue that can never be applied", "queue"),
    "outbox_messages": ("Messages that wait to be published", None),
    "outbox_oldest_seconds": ("Age of the oldest message that waits to be published", None),
    "report_days_not_built": ("Report days that have ended without a closed run", None),
    "disk_free_bytes": ("Free space where DATA_DIR is", None),
    "disk_size_bytes": ("Size of the file system where DATA_DIR is", None),
}
_KNOWN_SECONDS = 30

# The value of each label, by the name of a figure. What has no label has one value, under "".
Found = Mapping[str, Mapping[str, float]]


class Figures(Collector):
    """Shows what was found last: a scrape asks nobody. What could not be found out is left out,
    and so is everything that is older than half a minute: better no figure than an old one."""

    def __init__(self) -> None:
        self._found: Found = {}
        self._known_until = 0.0

    def show(self, found: Found) -> None:
        self._found, self._known_until = found, time.monotonic() + _KNOWN_SECONDS

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found = self._found if time.monotonic() < self._known_until else {}
        for name, (text, label) in _FIGURES.items():
            family = GaugeMetricFamily(name, text, labels=[label] if label else [])
            for key, value in found.get(name, {}).items():
                family.add_metric([key] if label else [], value)
            yield family


class Held(Collector):
    """The queue messages that this process holds, and since when."""

    def __init__(self) -> None:
        self._since: dict[object, tuple[str, float]] = {}

    @contextmanager
    def hold(self, queue: str) -> Iterator[None]:
        me = object()
        self._since[me] = (queue, time.monotonic())
        try:
            yield
        finally:
            del self._since[me]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        ages: dict[str, list[float]] = defaultdict(list)
        for queue, since in list(self._since.values()):  # a scrape has a thread of its own
            ages[queue].append(time.monotonic() - since)
        count = GaugeMetricFamily(
            "messages_held", "Queue messages that are tried again and again", labels=["queue"]
        )
        oldest = GaugeMetricFamily(
            "messages_held_oldest_seconds", "For how long the oldest is held", labels=["queue"]
        )
        for queue, seconds in ages.items():
            count.add_metric([queue], len(seconds))
            oldest.add_metric([queue], max(seconds))
        yield from (count, oldest)


FIGURES, HELD = Figures(), Held()
REGISTRY.register(FIGURES)
REGISTRY.register(HELD)


class Tally:
    """Of what happens often: `add_up` takes all that was noted in a turn of the event loop. With
    several processes, each change of a metric writes to a file."""

    def __init__(self, add_up: Callable[[list[float]], None]) -> None:
        self._add_up = add_up
        self._noted: list[float] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # that will add it up

    def note(self, value: float = 1) -> None:
        self._noted.append(value)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._loop = None
        noted, self._noted = self._noted, []
        self._add_up(noted)


def exposition() -> bytes:
    """In the format of Prometheus. One of several processes answers for all of them: each keeps its
    values in files of this directory, and who replaces one that has ended goes on with its
    counters. Counters add up. A gauge says how it does."""
    return generate_latest(_of_all_processes() or REGISTRY)


def _of_all_processes() -> CollectorRegistry | None:
    """None if this is the only web process."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return None
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def cache_reads() -> Mapping[str, float]:
    """How many reads had each result, in all web processes since the start."""
    reads: dict[str, float] = defaultdict(float)
    for metric in (_of_all_processes() or CACHE_READS).collect():
        for sample in metric.samples:
            if sample.name == "cache_reads_total":
                reads[sample.labels["result"]] += sample.value
    return reads


# Some versions of Python let several servers listen on one port: a scrape would reach any of them.
ThreadingWSGIServer.allow_reuse_port = False
_NEIGHBOURS = 10


def serve(host: str, port: int) -> None:
    """Show the metrics of a process without a port of its own, in a thread; with port 0, nowhere.

    Several processes of one machine may have the same setting: each takes the next free port.
    Without one it goes on all the same: nobody's work depends on being watched."""
    if not port:
        return
    for candidate in range(port, min(port + _NEIGHBOURS, 65536)):
        try:
            start_http_server(candidate, host)
        except OSError as error:
            reason = error.strerror
            if error.errno != errno.EADDRINUSE:
                break
        else:
            log.info("metrics", host=host, port=candidate)
            return
    log.warning("metrics are not shown: METRICS_HOST or METRICS_PORT", reason=reason)
