"""Spans of OpenTelemetry, if TRACING is set. If not, nothing of it is imported here, and each
function returns at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from app.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from app.runtime.spans import RequestSpan, SpanContext, Spans

_OFF: AbstractContextManager[None] = nullcontext()
_spans: Spans | None = None  # pylint: disable=invalid-name


def start(settings: Settings, process: str) -> None:
    """Sends spans where the standard variables (OTEL_*) say. Raises SystemExit if TRACING is set
    and the extra is not installed."""
    if not settings.tracing:
        return
    try:
        from app.runtime.spans import Spans  # pylint: disable=import-outside-toplevel
    except ImportError:
        raise SystemExit("TRACING needs the extra `tracing`: uv sync --extra tracing") from None
    use(Spans.exported(process))


def use(spans: Spans | None) -> None:
    global _spans  # pylint: disable=global-statement
    _spans = spans


def stop() -> None:
    """Send what is left, for a second at most."""
    if _spans:
        _spans.close()


def request(headers: Mapping[bytes, bytes], began: float) -> RequestSpan | None:
    """`began` is by time.perf_counter."""
    return _spans.request(headers, began) if _spans else None


def active(span: RequestSpan | None) -> AbstractContextManager[Any]:
    """Spans of what is done meanwhile are its children."""
    return span.active() if span else _OFF


def work(name: str) -> AbstractContextManager[Any]:
    """What begins here: a night, a run of producer.py."""
    return _spans.work(name) if _spans else _OFF


def consuming(
    name: str, headers: Mapping[str, Any] | None, **attributes: str
) -> AbstractContextManager[Any]:
    """A message: the child of whatever sent these headers."""
    return _spans.consuming(name, headers or {}, attributes) if _spans else _OFF


def producing(name: str, headers: Mapping[str, str]) -> AbstractContextManager[Any]:
    """A message that is sent for somebody whose headers it carries already."""
    return _spans.producing(name, headers) if _spans else _OFF


def batch(name: str, members: Sequence[SpanContext | None]) -> AbstractContextManager[Any]:
    """What is done for several at once: the child of the first, with links to the others."""
    return _spans.batch(name, members) if _spans else _OFF


def here() -> SpanContext | None:
    """For a `batch`."""
    return _spans.here() if _spans else None


def carried() -> dict[str, str]:
    """The headers that make what is sent with them part of this trace."""
    return _spans.carried() if _spans else {}


def watch(engine: Engine) -> None:
    """A span for each statement."""
    if _spans:
        _spans.watch(engine)
