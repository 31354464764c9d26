"""All metrics. `/metrics` shows what the web processes themselves have counted; in the one-process
mode that is everything."""

import asyncio
import os
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

# Set for each of several web processes: its number. Otherwise the library would name files after
# the process id, and each process that replaces another would leave more of them.
WEB_PROCESS = "WEB_PROCESS"
if number := os.environ.get(WEB_PROCESS):
    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]

HTTP_REQUESTS = Counter("http_requests_total", "HTTP responses", ["method", "route", "status"])
HTTP_SECONDS = Histogram(
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


class Tally:
    """Of what happens often: it goes to its counter once in a turn of the event loop. With several
    processes, each addition to a counter writes to a file."""

    def __init__(self, counter: Counter) -> None:
        self._add: Callable[[float], None] = counter.inc
        self._counted = 0
        self._loop: asyncio.AbstractEventLoop | None = None  # that will add it

    def count(self) -> None:
        self._counted += 1
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            loop.call_soon(self._add_up)

    def _add_up(self) -> None:
        self._loop = None
        counted, self._counted = self._counted, 0
        self._add(counted)


def exposition() -> bytes:
    """In the format of Prometheus. One of several processes answers for all of them: each keeps its
    values in files of this directory, and who replaces one that has ended goes on with its
    counters. Counters add up. A gauge says how it does."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
