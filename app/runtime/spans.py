"""What tracing.py does with OpenTelemetry. It is imported only if TRACING is set.

None of the ready-made instrumentations fits: Litestar's sees neither the fast path nor refusals;
SQLAlchemy's is for versions before 2.1, and asyncpg's does not see the prepared statements that
SQLAlchemy uses; FastStream's knows no batches of ours; TaskIQ's needs psutil and brings metrics
that we have."""

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sqlalchemy import Engine, event

from app.version import VERSION

__all__ = ["RequestSpan", "SpanContext", "Spans"]

# For what is left when the process ends.
_LAST_SECONDS = 1.0

_W3C = TraceContextTextMapPropagator()


class RequestSpan:
    def __init__(self, span: Span) -> None:
        self._span = span

    def active(self) -> AbstractContextManager[Any]:
        return trace.use_span(self._span, record_exception=False, set_status_on_exception=False)

    def end(self, request_id: str, method: str, route: str, status: int) -> None:
        """Named by the route: there are as many paths as there are rows."""
        self._span.update_name(f"{method} {route}")
        self._span.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "request_id": request_id,
            }
        )
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class Spans:
    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("order-service", VERSION)

    @classmethod
    def exported(cls, process: str) -> "Spans":
        """Over OTLP/HTTP, from a thread of its own; what nobody takes in time is dropped."""
        os.environ.setdefault("OTEL_SERVICE_NAME", f"order-service-{process}")
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def close(self) -> None:
        """A collector that is away would hold the process for ten seconds and more."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_LAST_SECONDS)

    def request(self, headers: Mapping[bytes, bytes], began: float) -> RequestSpan:
        parent = Context()
        if b"traceparent" in headers:
            parent = _extracted({k.decode("latin-1"): v for k, v in headers.items()})
        ago = time.perf_counter() - began
        start = time.time_ns() - int(ago * 1e9)
        return RequestSpan(
            self._tracer.start_span("request", parent, SpanKind.SERVER, start_time=start)
        )

    def work(self, name: str) -> AbstractContextManager[None]:
        return _current(self._tracer.start_span(name))

    def consuming(
        self, name: str, headers: Mapping[str, Any], attributes: Mapping[str, str]
    ) -> AbstractContextManager[None]:
        parent = _extracted(headers)
        return _current(self._tracer.start_span(name, parent, SpanKind.CONSUMER, attributes))

    def producing(self, name: str, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        return _current(self._tracer.start_span(name, _extracted(headers), SpanKind.PRODUCER))

    def batch(
        self, name: str, members: Sequence[SpanContext | None]
    ) -> AbstractContextManager[None]:
        first, *others = [member for member in members if member] or [trace.INVALID_SPAN_CONTEXT]
        parent = trace.set_span_in_context(trace.NonRecordingSpan(first), Context())
        links = [Link(other) for other in others]
        return _current(self._tracer.start_span(name, parent, links=links))

    def here(self) -> SpanContext:
        return trace.get_current_span().get_span_context()

    def carried(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        _W3C.inject(headers)
        return headers

    def watch(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self._begin)
        event.listen(engine, "after_cursor_execute", _end)
        event.listen(engine, "handle_error", _fail)

    def _begin(self, _: Any, __: Any, statement: str, ___: Any, execution: Any, ____: Any) -> None:
        """What the loops ask, for nobody, has no span."""
        if trace.get_current_span().is_recording():
            span = self._tracer.start_span(
                statement.split(None, 1)[0].upper(),
                kind=SpanKind.CLIENT,
                # The values are no part of it.
                attributes={"db.system.name": "postgresql", "db.query.text": statement.strip()},
            )
            execution.traced = span


@contextmanager
def _current(span: Span) -> Iterator[None]:
    with trace.use_span(  # pylint: disable=not-context-manager
        span, end_on_exit=True, record_exception=False, set_status_on_exception=False
    ):
        try:
            yield
        except Exception as error:
            _mark_failed(span, error)
            raise


def _mark_failed(span: Span, error: BaseException) -> None:
    """Without the error's text, which may have values in it."""
    span.set_status(Status(StatusCode.ERROR, type(error).__name__))


def _extracted(headers: Mapping[str, Any]) -> Context:
    """Without the headers, the current span is the parent, if there is one. A sender may have put
    anything there."""
    texts = {
        name: value.decode("latin-1") if isinstance(value, bytes) else str(value)
        for name, value in headers.items()
        if name in _W3C.fields
    }
    return _W3C.extract(texts, context.get_current())


def _end(*arguments: Any) -> None:
    execution = arguments[4]
    if span := getattr(execution, "traced", None):
        span.end()


def _fail(failure: Any) -> None:
    if span := getattr(failure.execution_context, "traced", None):
        _mark_failed(span, failure.original_exception)
        span.end()
