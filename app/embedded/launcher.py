"""Starts a child process with its directory, account and log. The child ends when we end."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.embedded.account import Account
from app.embedded.errors import EmbeddedServerError
from app.embedded.processes import LINUX

_PR_SET_PDEATHSIG = 1
_LOG_BYTES = 10 * 1024 * 1024
_TEXT_BYTES = 64 * 1024
_NO_OUTPUT = "no output, which happens when the disk is full"
_TOOL_SECONDS = 60.0

# Children do not inherit our environment: it holds secrets, and other programs may run under the
# children's account and read them.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"} | {
    name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ
}


class Log:
    """A server's output, in a file that every run appends to. This run's begins at `_start`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start = 0

    def open(self) -> BinaryIO:
        with suppress(FileNotFoundError):
            if self.path.stat().st_size > _LOG_BYTES:
                self.path.replace(self.path.with_name(self.path.name + ".1"))
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._start = os.fstat(descriptor).st_size
        return os.fdopen(descriptor, "wb")

    def text(self) -> str:
        """The last 64 KiB of what the server has written since its start."""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._start, size - _TEXT_BYTES))
            return file.read().decode(errors="replace")

    def complaint(self) -> str:
        """The last line that reports an error, or else the last line; and the log's path."""
        lines = [line.strip() for line in self.text().splitlines() if line.strip()] or [_NO_OUTPUT]
        errors = [line for line in lines if "FATAL:" in line or "error:" in line]
        return f"{(errors or lines)[-1]} (log: {self.path})"


@dataclass(frozen=True)
class Launcher:
    directory: Path
    log: Log
    account: Account | None

    @property
    def alias(self) -> str:
        """The path under which the child finds its directory.

        The child's account may lack access to the parent directories. /proc/self/cwd does not pass
        through them; it also avoids trouble with long paths and unusual characters."""
        return "/proc/self/cwd" if LINUX else str(self.directory)

    def launch(
        self,
        command: Sequence[str | Path],
        death_signal: signal.Signals,
        *,
        stdin: BinaryIO | int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start the child. Call this from the main thread: the kernel sends `death_signal` when the
        thread that started the child ends, not when our process does. Raises
        EmbeddedServerError if the child cannot run."""
        user, group = self.account or (None, None)
        with self.log.open() as log:
            try:
                return subprocess.Popen(  # pylint: disable=subprocess-popen-preexec-fn
                    command,
                    cwd=self.directory,
                    stdin=stdin,
                    stdout=log if stdout is None else stdout,
                    stderr=log,
                    env=_ENVIRONMENT,
                    user=user,
                    group=group,
                    extra_groups=[] if self.account else None,
                    start_new_session=True,  # Ctrl-C in the terminal reaches only us
                    preexec_fn=_die_with_parent(death_signal),
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise EmbeddedServerError(f"cannot run {command[0]}: {error}") from error

    async def run(
        self, command: Sequence[str | Path], text: str, seconds: float = _TOOL_SECONDS
    ) -> None:
        """Run a tool to its end, with `text` as its input. The input is a file, because a child
        under another account may not open /dev/stdin when it is a pipe of ours. Raises
        EmbeddedServerError if the tool fails or takes longer than that."""
        with tempfile.TemporaryFile() as stdin:
            stdin.write(text.encode())
            stdin.seek(0)
            if self.account:
                os.fchown(stdin.fileno(), *self.account)
            tool = self.launch(command, signal.SIGKILL, stdin=stdin, stdout=subprocess.DEVNULL)
        try:
            ended = await wait_exit(tool, seconds)
        finally:
            tool.kill()
            tool.wait()
        if not ended or tool.returncode:
            raise EmbeddedServerError(f"{Path(command[0]).name} failed: {self.log.complaint()}")


def _die_with_parent(signum: signal.Signals) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def arm() -> None:  # in the child, after the change of account, which would clear the setting
        prctl(_PR_SET_PDEATHSIG, int(signum))
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(1)

    return arm


async def wait_exit(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """False if the process still runs after that time."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while process.poll() is None:
        if clock() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True
