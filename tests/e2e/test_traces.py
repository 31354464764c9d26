"""The spans of all processes reach a collector; those of one run of producer.py are one trace."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (  # pylint: disable=E0611
    ExportTraceServiceRequest,
)

from harness.dependencies import Dependencies
from harness.service import Service
from harness.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Span(NamedTuple):
    service: str
    name: str
    trace: str


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


@contextmanager
def _collector() -> Iterator[tuple[str, list[Span]]]:
    """Its URL, and what it has got so far."""
    spans: list[Span] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # pylint: disable=invalid-name
            sent = ExportTraceServiceRequest()
            sent.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in sent.resource_spans:
                named = {a.key: a.value.string_value for a in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        spans.append(Span(named["service.name"], span.name, span.trace_id.hex()))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:  # pylint: disable=arguments-differ
            """The tests have no use for its lines."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", spans
        finally:
            server.shutdown()
            thread.join()


async def test_a_trace_goes_through_all_processes(
    dependencies: Dependencies, tree: Path, tmp_path: Path
) -> None:
    with _collector() as (url, spans):
        tracing = {
            "TRACING": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        async with Service(tree, tmp_path, {**dependencies.variables, **tracing}) as service:
            await service.start("web", "worker", "taskiq_worker")
            await service.script("producer.py")
            parent = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
            answer = await service.api.post("/report", headers=parent)
            answer.raise_for_status()

            def seen(*wanted: tuple[str, str], trace: str | None = None) -> bool:
                """Whether these spans are there, in one trace if one is named."""
                found = {s[:2] for s in spans if trace in (None, s.trace)}
                return set(wanted) <= found

            def started() -> str | None:
                runs = [s.trace for s in spans if s.name == "run producer"]
                return runs[0] if runs else None

            run = await eventually(started)
            orders = (
                ("order-service-worker", "process order"),
                ("order-service-web", "POST /users"),
            )
            await eventually(lambda: seen(*orders, trace=run), failure=lambda: str(spans))

            def reported() -> bool:
                """Whichever process has sent it: two have a relay."""
                ours = {s.name for s in spans if s.trace == TRACE}
                return {"POST /report", "send report"} <= ours

            await eventually(reported, failure=lambda: str(spans))
            night = ("order-service-taskiq_worker", "build owed reports")
            await eventually(lambda: seen(night), failure=lambda: str(spans))


async def test_a_collector_that_never_answers_holds_nothing_up(
    dependencies: Dependencies, tree: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracing = {
            "TRACING": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
        }
        async with Service(tree, tmp_path, {**dependencies.variables, **tracing}) as service:
            await service.start("web")
            (await service.api.get("/users")).raise_for_status()
            silent.settimeout(30)
            connection, _ = await asyncio.to_thread(silent.accept)  # a span is on its way
            with connection:
                (await service.api.get("/users")).raise_for_status()
                # OpenTelemetry itself would wait for 10 s, and once more for the rest.
                assert await service.web.stop(seconds=8) == 0
