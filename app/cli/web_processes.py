"""`serve` with WEB_CONCURRENCY > 1: processes that accept connections from one listening socket.

The parent binds the socket and starts the processes; it serves nothing itself. A process that dies
is started again. uvicorn's own supervisor would do for an application that can be pickled; it
starts a process that dies at once again at once, for ever.
"""

import asyncio
import atexit
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

import structlog
from prometheus_client.multiprocess import mark_process_dead

from app.metrics import WEB_PROCESS
from app.settings import ROOT, Settings

log = structlog.get_logger(__name__)

# Before a process is started again: none after a long life, else doubled with each short one.
_FIRST_PAUSE, _LONGEST_PAUSE, _LONG_LIFE = 0.5, 30.0, 10.0
# Longer than a process takes to stop.
_STOP_SECONDS = 12
_READY = b"ready\n"
# Where prometheus_client keeps the values of several processes.
_METRICS = "PROMETHEUS_MULTIPROC_DIR"


class CannotStart(Exception):
    """The first process of a place has ended before it was ready. Another would end the same
    way."""


async def serve(settings: Settings, listening: socket.socket) -> None:
    """Returns after SIGTERM or SIGINT, when all processes have ended. Raises SystemExit if one
    cannot start; it has said why itself."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with tempfile.TemporaryDirectory(prefix="order-service-metrics-") as metrics:
        slots = [_Slot(str(n), listening, metrics) for n in range(settings.web_concurrency)]
        told = loop.create_task(stopping.wait())
        keeping: list[asyncio.Task[None]] = []
        try:
            for slot in slots:  # one by one: what hinders all is said once
                keeping.append(loop.create_task(slot.keep()))
                ready = loop.create_task(slot.ready.wait())
                await asyncio.wait([told, ready, *keeping], return_when=asyncio.FIRST_COMPLETED)
                ready.cancel()
                if not slot.ready.is_set():
                    break
            else:
                await asyncio.wait([told, *keeping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Or clients could still connect, and nobody would answer.
            listening.close()
            told.cancel()
            for task in keeping:
                task.cancel()
            ends = await asyncio.gather(*keeping, return_exceptions=True)
            deadline = settings.shutdown_delay + _STOP_SECONDS
            await asyncio.gather(*(slot.stop(deadline) for slot in slots))
    for end in ends:
        if isinstance(end, CannotStart):
            raise SystemExit(1)
        if isinstance(end, Exception):
            raise end


class _Slot:
    """The place of one process: it has a process as long as it is kept."""

    def __init__(self, number: str, listening: socket.socket, metrics: str) -> None:
        self._number = number
        self._listening = listening
        self._metrics = metrics
        self._process: Process | None = None
        self.ready = asyncio.Event()  # it has been, once

    async def keep(self) -> None:
        """Raises CannotStart."""
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            process = self._process = await self._start()
            assert process.stdout
            if await process.stdout.readline() == _READY:
                self.ready.set()
            code = await process.wait()
            mark_process_dead(self._number, self._metrics)  # type: ignore[no-untyped-call]
            if code > 0 and not self.ready.is_set():
                raise CannotStart
            is_old = time.monotonic() - began > _LONG_LIFE
            pause = _FIRST_PAUSE if is_old else min(pause * 2, _LONGEST_PAUSE)
            log.error("web process ended, starting another", pid=process.pid, code=code)
            await asyncio.sleep(0 if is_old else pause)

    async def _start(self) -> Process:
        descriptor = self._listening.fileno()
        own = {WEB_PROCESS: self._number, _METRICS: self._metrics}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", "web", "--fd", str(descriptor)),
            cwd=ROOT,
            env={**os.environ, **own},
            pass_fds=[descriptor],
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # Ctrl-C in a terminal reaches only the parent
        )

    async def stop(self, seconds: float) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            log.error("web process does not stop, killed", pid=process.pid)
            process.kill()
            await process.wait()


def is_ready() -> None:
    """Called by such a process when it serves. From then on it also ends with its parent."""
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), _READY)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _end_with_parent)


def _end_with_parent() -> None:
    """The parent writes nothing, so what is to be read is the end."""
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    # The parent has not.
    atexit.register(shutil.rmtree, os.environ[_METRICS], ignore_errors=True)
    signal.raise_signal(signal.SIGTERM)
