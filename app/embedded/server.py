"""What PostgreSQL and Valkey have in common as child processes."""

import asyncio
import logging
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from app.embedded.account import account_for, make_private
from app.embedded.errors import EmbeddedServerError
from app.embedded.launcher import Launcher, Log, wait_exit
from app.embedded.ports import free_port, is_free
from app.embedded.processes import end_leftovers, processes_in, signal_all

log = logging.getLogger(__name__)

_READY = "ready to accept connections"
_SILENT_SECONDS = 60.0  # recovery after a crash may take longer, but it logs every 10 s
_STOP_SECONDS = 20.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class Server(ABC):
    """A server with its data in `directory`/`key` and its log beside it.

    The caller must be the only user of `directory`: start() ends any server that it finds there.
    If `port` is taken at the first start, the server gets another one. From then on the port stays
    the same."""

    name: str
    key: str
    program: str
    stop_signal: signal.Signals

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.directory = directory.resolve()
        self.port = port or free_port()
        self._launcher = Launcher(
            self.directory / self.key, Log(self.directory / f"{self.key}.log"), None
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._port_settled = False
        self._wanted = False

    @abstractmethod
    async def _prepare(self) -> None:
        """Find the programs and create what the first start needs."""

    @abstractmethod
    def _command(self, directory: str) -> Sequence[str | Path]: ...

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedServerError(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def failed(self) -> bool:
        """Whether the process has ended without having been stopped."""
        return self._wanted and not self.running

    async def start(self) -> None:
        """Return when the server accepts connections. It may have been stopped, killed or never
        started before. Raises EmbeddedServerError."""
        if self.running:
            return
        try:
            await self._start()
        except OSError as error:
            raise EmbeddedServerError(
                f"{self.name} cannot use {self.directory} ({error}): "
                "start as the user who owns it, or choose another directory"
            ) from error

    async def _start(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        data = self._launcher.directory
        await end_leftovers(data, self.program, self.stop_signal)
        self._launcher = Launcher(data, self._launcher.log, account_for(data))
        await self._prepare()
        make_private(data, self._launcher.account)
        if not self._port_settled and not is_free(self.port):
            self.port = free_port()
        try:
            await self._launch()
        except EmbeddedServerError:
            if self._port_settled or is_free(self.port):
                raise
            self.port = free_port()  # another program took the port after the check
            await self._launch()
        self._port_settled = self._wanted = True

    async def _launch(self) -> None:
        self._process = self._launcher.launch(self._command(self._launcher.alias), self.stop_signal)
        try:
            await self._ready(self._process)
        except BaseException:
            self._kill()
            raise

    async def _ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for the line in the log that both servers write, in the same words. A connection
        would prove less: another program may be listening on the port."""
        clock = asyncio.get_running_loop().time
        text, changed = "", clock()
        while _READY not in text.lower():
            if process.poll() is not None or clock() - changed > _SILENT_SECONDS:
                complaint = self._launcher.log.complaint()
                raise EmbeddedServerError(f"{self.name} did not start: {complaint}")
            await asyncio.sleep(0.01)
            if (longer := self._launcher.log.text()) != text:
                text, changed = longer, clock()

    async def stop(self) -> None:
        """Shut down cleanly; kill when that takes more than 20 s or the caller is cancelled."""
        await self._end(self.stop_signal)

    async def _end(self, signum: signal.Signals) -> None:
        self._wanted = False
        try:
            if self._process is not None and self.running:
                self._process.send_signal(signum)
                self.resume()
                await wait_exit(self._process, _STOP_SECONDS)
        finally:
            self._kill()

    def kill(self) -> None:
        """SIGKILL to all its processes, as in a power failure."""
        self._wanted = False
        self._kill()

    def _kill(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        signal_all(self._processes(), signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP to all its processes; to the server first, so that it starts no new ones."""
        signal_all([self.pid], signal.SIGSTOP)
        signal_all(self._processes(), signal.SIGSTOP)

    def resume(self) -> None:
        signal_all(self._processes(), signal.SIGCONT)

    def _processes(self) -> list[int]:
        return processes_in(self._launcher.directory, self.program)

    async def wait_failed(self) -> None:
        while not self.failed:
            await asyncio.sleep(0.1)

    async def supervise(self) -> None:
        """Restart the server whenever it fails, until cancelled."""
        pause = _FIRST_PAUSE
        clock = asyncio.get_running_loop().time
        while True:
            since = clock()
            await self.wait_failed()
            if clock() - since > 2 * _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            log.warning("%s ended unexpectedly, restarting it in %.1f s", self.name, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            await self._restart()

    async def _restart(self) -> None:
        if not self.failed:
            return
        try:
            await self.start()
        except EmbeddedServerError as error:
            log.warning("%s", error)
        else:
            log.warning("%s runs again on port %d", self.name, self.port)
