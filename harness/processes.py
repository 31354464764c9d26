"""Child processes of the tests: their output goes to a file, and they end when the tests do."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.waiting import eventually

_PR_SET_PDEATHSIG = 1
# All that children inherit of our environment: a developer's settings must not reach them. The last
# is how `pytest --cov` reaches them.
_INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_CONFIG")


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: these variables, and what every program needs."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return inherited | dict(variables)


class Process:
    """A child process; its environment is `variables` and what every program needs."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        variables: Mapping[str, str],
        *,
        directory: Path,
        log: Path,
    ) -> None:
        self.name = name
        self.log = log
        self._command = command
        self._environment = environment(variables)
        self._directory = directory
        self._child: subprocess.Popen[bytes] | None = None
        self._log_begins = 0

    @property
    def pid(self) -> int:
        assert self._child is not None, f"{self.name} was not started"
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def output(self) -> str:
        """What the process has written since its last start."""
        return self.log.read_bytes()[self._log_begins :].decode(errors="replace")

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            # pylint: disable-next=consider-using-with,subprocess-popen-preexec-fn
            self._child = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent(),
            )

    async def says(self, *texts: str, seconds: float = 30) -> None:
        """Wait until the output has all the texts; fail with it if the process ends first."""

        def said() -> bool:
            output = self.output
            assert self.running or all(text in output for text in texts), self._failure(texts)
            return all(text in output for text in texts)

        await eventually(said, seconds, lambda: self._failure(texts))

    async def ends(self, seconds: float = 20) -> int:
        """Wait for the process to end and return its exit code, negative for a signal."""
        await eventually(lambda: not self.running, seconds, lambda: self._failure(("its end",)))
        assert self._child is not None
        return self._child.returncode

    async def stop(self, signum: signal.Signals = signal.SIGTERM, seconds: float = 20) -> int:
        if self.running:
            os.kill(self.pid, signum)
        return await self.ends(seconds)

    def kill(self) -> None:
        """SIGKILL to the process and its children."""
        if self._child is None:
            return
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._child.wait()

    def pause(self) -> None:
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def _failure(self, texts: Sequence[str]) -> str:
        return f"{self.name}: waited for {texts}, but it wrote:\n{self.output[-8000:]}"


async def run(process: Process, seconds: float = 60) -> str:
    """Run a program, which must exit with 0, and return its output."""
    process.start()
    try:
        code = await process.ends(seconds)
    finally:
        process.kill()
    assert code == 0, f"{process.name} exited with {code}:\n{process.output[-8000:]}"
    return process.output


def _die_with_parent() -> Callable[[], None] | None:
    """The kernel sends the child a SIGTERM however the tests end, even if they are killed."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


async def finish(processes: Sequence[Process]) -> None:
    """Stop them all: SIGTERM first, and SIGKILL to those that still run after 10 s."""
    for process in processes:
        if process.running:
            os.kill(process.pid, signal.SIGTERM)
    await asyncio.gather(*(_finish(process) for process in processes))


async def _finish(process: Process) -> None:
    try:
        if process.running:
            await process.ends(10)
    except AssertionError:
        pass  # it ignored the SIGTERM; tests of the shutdown itself use stop()
    finally:
        process.kill()
