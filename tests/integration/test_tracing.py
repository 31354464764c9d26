"""TRACING: what is done for one client, in whichever process, is one trace."""

# pylint: disable=redefined-outer-name,unused-argument,too-many-locals

import subprocess
import sys
from collections.abc import Iterator, Sequence

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, StatusCode

from app import scheduler
from app.container import Container
from app.runtime import tracing
from app.runtime.spans import Spans
from app.settings import ROOT
from harness.databases import connected
from harness.queues import QueueClient
from harness.served import as_served
from harness.shop import Shop
from harness.waiting import eventually
from tests.integration.conftest import Outcome

TRACE, CLIENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{CLIENT}-01"
TRANSPORTS = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])


@pytest.fixture(autouse=True)
def spans() -> Iterator[InMemorySpanExporter]:
    """Before the container is opened."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(Spans(provider))
    yield exporter
    tracing.use(None)


def _http(method: str, path: str, *headers: str, body: str = "") -> bytes:
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return ("\r\n".join([*head, "", ""]) + body).encode()


def _context(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context
    return context


def _trace(span: ReadableSpan) -> str:
    return f"{_context(span).trace_id:032x}"


def _named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


@TRANSPORTS
async def test_one_order_is_one_trace_from_its_sender_to_its_report(
    spans: InMemorySpanExporter,
    container: Container,
    shop: Shop,
    consumers: None,
    queues: QueueClient,
    outcome: Outcome,
    database_url: str,
) -> None:
    body = shop.order_body((await shop.product(), 2))
    spans.clear()
    await queues.send("order", body, "order-1", headers={"traceparent": PARENT})
    order_id = (await outcome("order-1"))["result_id"]
    asked = [f"traceparent: {PARENT}", "X-Request-ID: ours-1"]
    async with as_served(container) as server:
        for request in (
            _http("GET", f"/orders/{order_id}", *asked),
            _http("GET", f"/users/{shop.user_id}", *asked),
            _http("POST", "/report", *asked),
        ):
            assert (await server.answer(request)).startswith(b"HTTP/1.1 200")
    async with connected(database_url) as connection:
        ids = [row["id"] for row in await connection.fetch("SELECT id FROM outbox")]
    await container.relay.send(ids)
    report = await queues.take("report")
    assert report.headers["traceparent"].split("-")[1] == TRACE

    # The outcome is committed, and can be read, before the span of its message has ended.
    await eventually(lambda: _named(spans.get_finished_spans(), "process order"))
    ours = [span for span in spans.get_finished_spans() if _trace(span) == TRACE]
    names = {span.name for span in ours}
    assert {"process order", "apply batch", "INSERT", "SELECT", "send report"} <= names
    assert {"GET /orders/{order_id}", "GET /users/{user_id}", "POST /report"} <= names
    known = {_context(span).span_id for span in ours} | {int(CLIENT, 16)}
    assert all(span.parent and span.parent.span_id in known for span in ours)
    [built] = _named(ours, "POST /report")
    assert dict(built.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/report",
        "http.response.status_code": 200,
        "request_id": "ours-1",
    }
    # No path, and no value of a row.
    told = str([(span.name, span.attributes) for span in spans.get_finished_spans()])
    assert "jane" not in told and "Obere Str" not in told and f"/users/{shop.user_id}" not in told


async def test_orders_of_one_batch_are_linked(
    spans: InMemorySpanExporter,
    container: Container,
    shop: Shop,
    consumers: None,
    queues: QueueClient,
    outcome: Outcome,
) -> None:
    body = shop.order_body((await shop.product(), 1))
    spans.clear()
    for number in range(30):
        await queues.send("order", body, f"order-{number}", headers={"traceparent": PARENT})
    for number in range(30):
        assert (await outcome(f"order-{number}"))["status"] == "applied"
    await eventually(lambda: len(_named(spans.get_finished_spans(), "process order")) == 30)
    finished = spans.get_finished_spans()
    processed = {_context(s).span_id for s in _named(finished, "process order")}
    batches = _named(finished, "apply batch")
    in_batches = [s.parent.span_id for s in batches if s.parent]
    in_batches += [link.context.span_id for s in batches for link in s.links]
    assert len(processed) == 30 and sorted(in_batches) == sorted(processed)


async def test_a_cached_read_and_a_refusal_have_a_span(
    spans: InMemorySpanExporter, container: Container, shop: Shop, client: httpx.AsyncClient
) -> None:
    """The client's application looks after the cache."""
    path = f"/users/{shop.user_id}"

    async def is_hit() -> bool:
        """A span without a statement below it."""
        spans.clear()
        async with as_served(container) as server:
            await server.answer(_http("GET", path))
        return [span.name for span in spans.get_finished_spans()] == ["GET /users/{user_id}"]

    await eventually(is_hit)
    spans.clear()
    async with as_served(container) as server:
        for method, target, headers in (
            ("GET", "/nothing", []),
            ("POST", "/report", ["Origin: https://evil.example"]),
            ("GET", "/health/live", []),
            ("GET", "/metrics", []),
        ):
            await server.answer(_http(method, target, *headers))
    found = spans.get_finished_spans()
    assert [span.name for span in found] == ["GET unmatched", "POST unmatched"]
    assert len({_trace(span) for span in found}) == 2


async def test_a_statement_that_fails_is_marked_without_its_values(
    spans: InMemorySpanExporter, container: Container, shop: Shop
) -> None:
    body = '{"username": "secret_name", "email": "secret@example.com"}'
    async with as_served(container) as server:
        assert b" 201 " in await server.answer(_http("POST", "/users", body=body))
        async with connected(container.settings.database_url or "") as connection:
            await connection.execute("ALTER TABLE users RENAME TO people")
        assert b" 503 " in await server.answer(_http("GET", "/users"))
    failed = [s for s in spans.get_finished_spans() if s.status.status_code is StatusCode.ERROR]
    assert {span.name for span in failed} == {"GET /users", "WITH"}
    assert "secret" not in str([span.to_json() for span in spans.get_finished_spans()])


async def test_a_night_is_a_trace_of_its_own_and_its_message_tells_which(
    spans: InMemorySpanExporter, container: Container, shop: Shop, queues: QueueClient
) -> None:
    await shop.order((await shop.product(), 1))
    spans.clear()
    await scheduler.ensure_reports(container, running_day=True)
    [night] = _named(spans.get_finished_spans(), "build owed reports")
    traces = {_trace(span) for span in spans.get_finished_spans()}
    assert traces == {_trace(night)}
    assert _trace(night) in (await queues.take("report")).headers["traceparent"]


_WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
import app.cli.serve, app.cli.one_process, app.worker, app.scheduler, app.client.produce
from app.runtime import tracing
from app.settings import Settings
tracing.start(Settings(), "web")
assert tracing.request({}, 0.0) is None and tracing.carried() == {}
assert "app.runtime.spans" not in sys.modules
tracing.start(Settings(tracing=True), "web")
"""


def test_without_the_extra_nothing_of_it_is_imported_and_the_setting_is_explained() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr.strip()) == (
        1,
        "TRACING needs the extra `tracing`: uv sync --extra tracing",
    )


_OFF = """
import sys
import app.cli.serve, app.cli.one_process, app.worker, app.scheduler, app.client.produce
mine = {name for name in sys.modules if name.startswith(("app.runtime.spans", "opentelemetry.exp"))}
assert not mine, mine
"""


def test_with_the_extra_nothing_of_it_is_imported_by_us_while_it_is_off() -> None:
    """redis-py and TaskIQ import its API wherever it is installed."""
    subprocess.run([sys.executable, "-c", _OFF], cwd=ROOT, check=True)
