"""One log format for all processes: a JSON object a line, or a readable line in a terminal."""

import asyncio
import io
import json
import logging
import re
import sys
from contextlib import suppress
from typing import TextIO

import msgspec
import structlog
from structlog.typing import EventDict, ExcInfo, WrappedLogger

_LIBRARIES = {
    "aio_pika": logging.WARNING,
    "aiormq": logging.CRITICAL,  # says what aio_pika says again
    "alembic": logging.WARNING,
    "faststream": logging.WARNING,
    "uvicorn": logging.WARNING,
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}", text)


def _escape_control(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """JSON escapes these by itself; a terminal would obey them."""
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = _escaped(value)
    return event


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    """As json.dumps, but a tenth of its time where msgspec does the same: it leaves the letters
    that are no ASCII as they are, C1 control characters too."""
    with suppress(ValueError, TypeError):  # a lone surrogate, a strange key
        line = msgspec.json.format(msgspec.json.encode(event, enc_hook=repr), indent=0)
        if line.isascii():
            return line.decode()
    return json.dumps(event, default=repr)


class _Output:
    """Flushes stderr once for all lines of a turn of the event loop, and before it waits again. As
    for the libraries' records, a line that cannot be written is no reason to fail."""

    def __init__(self) -> None:
        self._flushing: asyncio.AbstractEventLoop | None = None

    def write(self, line: str) -> None:
        with suppress(OSError):
            sys.stderr.buffer.write(line.encode(errors="backslashreplace") + b"\n")
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a thread, or before and after the loop
            self._flush()
        else:
            if loop is not self._flushing:
                self._flushing = loop
                loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        with suppress(OSError):
            sys.stderr.buffer.flush()


_output = _Output()


class _Lines:
    """The end of our own events' way."""

    def __init__(self, name: str) -> None:
        self.name = name

    def msg(self, line: str) -> None:
        _output.write(line)

    debug = info = warning = error = critical = msg


def _traceback(out: TextIO, error: ExcInfo) -> None:
    """Lines without local variables, which structlog shows by default, passwords among them."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write("\n".join(map(_escaped, text.getvalue().split("\n"))))


def _renderers(fmt: str) -> list[structlog.typing.Processor]:
    if fmt == "console":
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=_traceback,
        )
        return [_escape_control, console]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        _render_json,
    ]


def configure(level: str, fmt: str | None, process: str) -> None:
    """Send everything, the libraries' records too, to stderr. `process` goes into every line."""
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
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    for name, its_level in _LIBRARIES.items():
        logging.getLogger(name).setLevel(its_level)
