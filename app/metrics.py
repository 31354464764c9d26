"""The counters, named once."""

from prometheus_client import Counter, Histogram

HTTP_REQUESTS = Counter("http_requests_total", "Answers", ["method", "route", "status"])
HTTP_SECONDS = Histogram(
    "http_request_seconds",
    "Time to the last byte of the answer",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
CACHE_READS = Counter("cache_reads_total", "Cache look-ups", ["kind", "result"])
CACHE_INVALIDATIONS = Counter("cache_invalidations_total", "After a commit", ["result"])
MESSAGES = Counter("messages_total", "Queue messages by what became of them", ["queue", "outcome"])
MESSAGE_HOLDS = Counter("message_holds_total", "Waits for the surroundings to recover", ["queue"])
PUBLISHED = Counter("published_total", "Messages confirmed by the broker", ["queue"])
ORDERS = Counter("orders_total", "Orders accepted or refused", ["result"])
REPORT_ROWS = Counter("report_rows_total", "Report rows written")
