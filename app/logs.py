"""One log format for all processes: one JSON object per line, or a readable line in a terminal."""

import io
import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from http import HTTPStatus
from typing import Any, ClassVar, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, ExcInfo, WrappedLogger

from app.output import Output, Stream, descriptor_of

log = structlog.get_logger(__name__)
# As json.dumps does it, which takes three times as long to come to it.
_quoted = json.encoder.encode_basestring_ascii

_LIBRARIES = {
    "aio_pika": logging.ERROR,  # warns every second; we say once what is wrong
    "aiormq": logging.CRITICAL,  # repeats what aio_pika says
    "alembic": logging.WARNING,
    # What we give FastStream in place of its own, which it configures itself when it is imported.
    # It says every second what we say once.
    "app.faststream": logging.CRITICAL,
    "httpx": logging.WARNING,  # each request is a line otherwise
    # Without it, each span that is dropped while nobody takes them is a line.
    "opentelemetry": logging.ERROR,
    "uvicorn": logging.WARNING,
}
# How long a line in a terminal may be.
_COLUMNS = 120
_LONGEST_WORD = re.compile(r"\S{100}(?=\S)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}", text)


def _escape_control(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A terminal would obey control characters. JSON needs no such step: it escapes them itself."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _escaped(value)
    return event


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    """What json.dumps writes, in a tenth of its time where msgspec can do it.

    msgspec writes non-ASCII characters as they are, C1 control characters among them: a line that
    has any is left to json.dumps, which escapes them."""
    with suppress(ValueError, TypeError):  # a lone surrogate, or a key that is not text
        line = msgspec.json.format(msgspec.json.encode(event, enc_hook=repr), indent=0)
        if line.isascii():
            return line.decode()
    return json.dumps(event, default=repr)


class _LineLogger:
    """What structlog hands each rendered line of our own events to. The libraries' records go
    through a handler of the standard library instead."""

    def __init__(self, name: str) -> None:
        self.name = name

    def msg(self, line: str) -> None:
        sys.stderr.write(line + "\n")

    debug = info = warning = error = critical = msg


@lru_cache
def _beginning(method: str, route: str, status: int) -> str:
    return json.dumps({"method": method, "route": route, "status": status})[:-1]


def _members(fields: Mapping[str, str]) -> str:
    return "".join(f'"{name}": {_quoted(text)}, ' for name, text in fields.items())


class Thinned:
    """Lets through so many lines in a second. The next that is written tells how many were left
    out."""

    def __init__(self, most: int | None) -> None:
        """`most` is for a second; None: all are written."""
        self._most = most
        self._second = 0
        self._written = 0
        self._left_out = 0

    def leaves_out(self) -> bool:
        """Whether this line is one too many."""
        if self._most is None:
            return False
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._written = second, 0
        self._written += 1
        is_too_many = self._written > self._most
        self._left_out += is_too_many
        return is_too_many

    def left_out(self) -> int:
        """Since it was last asked."""
        count, self._left_out = self._left_out, 0
        return count


class RequestLog:
    """The lines of requests, which are most of a log. Where they are JSON they are put together
    here, in a third of the time that structlog takes for the same bytes."""

    # The least level that is written.
    least: ClassVar[int] = logging.NOTSET
    # Of the process, if its log is JSON.
    json_name: ClassVar[str | None] = None
    # Those of ordinary requests.
    ordinary: ClassVar[Thinned] = Thinned(None)

    def __init__(self, name: str) -> None:
        self._name = name
        self._log = structlog.get_logger(name)

    def write(
        self,
        level: int,
        request_id: str,
        method: str,
        route: str,
        path: str,
        status: int,
        milliseconds: float,
        told: Mapping[str, str],
        *,
        is_ordinary: bool = False,
    ) -> None:
        """`level` is at least `least`. `told` are more fields. The request id must need no
        escaping. Ordinary requests differ in nothing that somebody would look for, so some may be
        left out."""
        is_info = level == logging.INFO
        if is_info and is_ordinary and self.ordinary.leaves_out():
            return
        left_out = self.ordinary.left_out() if is_info else 0
        if not is_info or self.json_name is None:
            self._log.log(
                level,
                "request",
                method=method,
                route=route,
                status=status,
                path=path,
                milliseconds=milliseconds,
                **told,
                **({"left_out": left_out} if left_out else {}),
                request_id=request_id,
            )
            return
        left = f'"left_out": {left_out}, ' if left_out else ""
        now = datetime.now(UTC).isoformat().removesuffix("+00:00")
        sys.stderr.write(
            f'{_beginning(method, route, status)}, "path": {_quoted(path)}, '
            f'"milliseconds": {milliseconds}, {_members(told)}{left}'
            f'"request_id": "{request_id}", "level": "info", "logger": "{self._name}", '
            f'"timestamp": "{now}Z", "process": "{self.json_name}", "message": "request"}}\n'
        )


def _traceback(out: TextIO, error: ExcInfo) -> None:
    """Without the values of local variables, which structlog shows by default: some are
    passwords."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write("\n".join(map(_escaped, text.getvalue().split("\n"))))


def _for_people(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """What somebody who watches a terminal looks for, in words."""
    event["timestamp"] = event["timestamp"][11:19]
    del event["process"]
    if event["logger"].startswith("app."):
        del event["logger"]
    if event["event"] == "request":
        status = HTTPStatus(event.pop("status"))
        answered = f"{event.pop('method')} {event.pop('path')}: {status} {status.phrase}"
        del event["route"]
        event = {"event": answered, **{n: v for n, v in event.items() if n != "event"}}
    for key, value in event.items():
        if isinstance(value, Enum):
            event[key] = value.value
    return event


def _folded(_: WrappedLogger, __: str, line: Any) -> str:
    """A long line goes on below its beginning. A traceback stays as it is."""
    first, newline, rest = str(line).partition("\n")
    lines, width = [""], 0
    for word in _LONGEST_WORD.sub(r"\g<0> ", first).split():
        length = len(_COLOUR.sub("", word))
        if width and width + 1 + length > _COLUMNS:
            lines.append("   ")
            width = 3
        lines[-1] += f" {word}" if width else word
        width += length + (1 if width else 0)
    return "\n".join(lines) + newline + rest


def _renderers(fmt: str) -> list[structlog.typing.Processor]:
    if fmt == "console":
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=_traceback,
            pad_event_to=0,
            pad_level=False,
            sort_keys=False,
        )
        return [_for_people, _escape_control, console, _folded]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        _render_json,
    ]


def _stop_blocking() -> None:
    """No log line ever waits for who reads stderr."""
    if isinstance(sys.stderr, Stream):
        return
    descriptor = descriptor_of(sys.stderr)
    output = Output(descriptor, lambda lines: log.warning("log lines dropped", lines=lines))
    sys.stderr = Stream(output, descriptor)


def configure(level: str, fmt: str | None, process: str) -> None:
    """Send our events and the libraries' records to stderr; every line names the `process`.

    `fmt` is `json` or `console`; None chooses by whether stderr is a terminal."""
    _stop_blocking()
    fmt = fmt or ("console" if sys.stderr.isatty() else "json")

    def name_process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["process"] = process
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
    ]
    renderers = _renderers(fmt)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_LineLogger,
        cache_logger_on_first_use=True,
    )
    for name, its_level in _LIBRARIES.items():
        logging.getLogger(name).setLevel(its_level)
    RequestLog.least = logging.getLogger().level
    RequestLog.json_name = process if fmt == "json" else None
