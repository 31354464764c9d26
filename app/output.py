"""Text for a stream that others read: stderr with the log, stdout with the banner. A reader that
stands still, a full disk or a closed pipe never stops the one who writes."""

import asyncio
import io
import os
import select
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.util import Finalize
from queue import Empty, SimpleQueue
from typing import Any, TextIO

from app.metrics import LOG_LINES_DROPPED

# What may wait in memory, in bytes. Whatever comes while it is full is dropped and counted.
_MOST_WAITING = 1024 * 1024
# How long the end of the process waits for its reader.
_LAST_SECONDS = 1.0
_Write = Callable[[bytes], int]


class Output:
    """Writes once for all lines of one iteration of the event loop, before the loop waits again. A
    thread writes what the stream does not take at once.

    `on_dropped` is called with the number of lines that are lost, once when writing works again.
    RLock and SimpleQueue may be entered again by the same thread: a signal handler or a destructor
    may write at any moment."""

    def __init__(
        self, descriptor: int, on_dropped: Callable[[int], Any] = lambda lines: None
    ) -> None:
        self._descriptor = descriptor
        self._write_now = _never_blocking(descriptor)
        self._on_dropped = on_dropped
        self._flushing: asyncio.AbstractEventLoop | None = None
        self._lock = threading.RLock()
        self._texts: list[str] = []
        self._queue: SimpleQueue[bytes] = SimpleQueue()
        self._waiting = self._dropped = 0
        self._works = True
        threading.Thread(target=self._write_queue, name=f"fd {descriptor}", daemon=True).start()
        # In a child of multiprocessing too, unlike atexit: TaskIQ's worker is one.
        Finalize(None, self.end, exitpriority=0)

    def write(self, text: str) -> None:
        with self._lock:
            self._texts.append(text)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # in a thread, or while no loop runs
            self.flush()
        else:
            if loop is not self._flushing:
                self._flushing = loop
                loop.call_soon(self.flush)

    def flush(self) -> None:
        """Give away what is there, without waiting."""
        self._flushing = None
        with self._lock:
            texts, self._texts = self._texts, []
            data = "".join(texts).encode(errors="backslashreplace")
            if data and not self._waiting:
                data = self._send(data, self._write_now)
            if data:
                self._enqueue(data)
        self._tell()

    def end(self) -> None:
        """Wait until all is written, but no longer than a second."""
        self.flush()
        deadline = time.monotonic() + _LAST_SECONDS
        while self._waiting and time.monotonic() < deadline:
            time.sleep(0.001)

    def _send(self, data: bytes, write: _Write) -> bytes:
        """What the stream does not take now. An error drops the rest."""
        try:
            while data:
                data = data[write(_in_one_piece(data)) :]
            self._works = True
        except BlockingIOError:
            return data
        except OSError:
            self._works = False
            self._drop(data)
        return b""

    def _enqueue(self, data: bytes) -> None:
        if self._waiting + len(data) > _MOST_WAITING:
            self._drop(data)
        else:
            self._waiting += len(data)
            self._queue.put(data)

    def _write_queue(self) -> None:
        while True:
            data = self._next()
            left = data
            while left := self._send(left, self._write_patiently):
                select.select([], [self._descriptor], [])
            with self._lock:
                self._waiting -= len(data)
            self._tell()

    def _next(self) -> bytes:
        parts = [self._queue.get()]
        with suppress(Empty):
            while True:
                parts.append(self._queue.get_nowait())
        return b"".join(parts)

    def _write_patiently(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def _drop(self, data: bytes) -> None:
        lines = data.count(b"\n")
        LOG_LINES_DROPPED.inc(lines)
        with self._lock:
            self._dropped += lines

    def _tell(self) -> None:
        if self._dropped and self._works and not self._waiting:
            with self._lock:
                lines, self._dropped = self._dropped, 0
            self._on_dropped(lines)


def _in_one_piece(data: bytes) -> bytes:
    """As many lines as a pipe takes at once, or one that is longer: other processes write to the
    same pipe, and parts of their lines would come between those of ours."""
    if len(data) <= select.PIPE_BUF:
        return data
    end = data.rfind(b"\n", 0, select.PIPE_BUF) + 1 or data.find(b"\n") + 1
    return data[:end] if end else data


def _never_blocking(descriptor: int) -> _Write:
    """A write that raises BlockingIOError instead of waiting.

    To set O_NONBLOCK on the descriptor itself would set it for all programs that share it, such as
    the shell. Without a way of our own, everything is left to the thread."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return lambda data: os.write(descriptor, data)
    if stat.S_ISSOCK(mode):
        stream = socket.socket(fileno=os.dup(descriptor))
        return lambda data: stream.send(data, socket.MSG_DONTWAIT)
    if sys.platform == "linux":
        with suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            own = os.open(f"/proc/self/fd/{descriptor}", flags)
            return lambda data: os.write(own, data)
    return _refuse


def _refuse(_: bytes) -> int:
    raise BlockingIOError


class Stream(io.TextIOBase):
    """In place of sys.stderr: what anybody prints, and the tracebacks of the interpreter, go
    through the same output."""

    def __init__(self, output: Output, descriptor: int) -> None:
        super().__init__()
        self._output = output
        self._descriptor = descriptor

    def write(self, text: str) -> int:
        self._output.write(text)
        return len(text)

    def flush(self) -> None:
        self._output.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def descriptor_of(stream: TextIO | None) -> int:
    """Of /dev/null, if the process was started without that stream: its number may belong to a
    socket by now."""
    return os.open(os.devnull, os.O_WRONLY) if stream is None else stream.fileno()


def say(text: str) -> None:
    """Like print(), but it neither waits for a reader nor fails."""
    Output(descriptor_of(sys.stdout)).write(text + "\n")


def say_in_terminal(text: str) -> None:
    """What only somebody who waits wants to know."""
    if sys.stdout is not None and sys.stdout.isatty():
        say(text)
