"""Finds and ends the servers that an earlier run left behind, by their working directory."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from app.embedded.errors import EmbeddedServerError

log = logging.getLogger(__name__)

LINUX = sys.platform == "linux"
_GRACE_SECONDS = 2.0
_KILL_SECONDS = 10.0


def processes_in(directory: Path, program: str) -> list[int]:
    """The pids of all processes of the server that works in `directory`. A pid file would not do:
    its pid may belong to another process by now. Zombies have no working directory, so they are
    not included."""
    if not directory.exists():
        return []
    return list((_by_directory if LINUX else _by_arguments)(directory, program))


def _by_directory(directory: Path, program: str) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended, or belongs to another user
            if (
                entry.name.isdigit()
                and (entry / "comm").read_text().strip() == program
                and os.path.samefile(entry / "cwd", directory)
            ):
                yield int(entry.name)


def _by_arguments(directory: Path, program: str) -> Iterator[int]:
    """Without /proc: a server has its directory among its arguments. Its children do not, so they
    are found by their parent."""
    columns = ["-o", "pid=", "-o", "ppid=", "-o", "command="]
    listing = subprocess.run(
        ["ps", "-A", "-ww", *columns], capture_output=True, text=True, check=True
    )
    servers: set[str] = set()
    for pid, parent, command in (line.split(None, 2) for line in listing.stdout.splitlines()):
        ours = f"/{program} -" in command and f" {directory} " in f"{command} "
        if ours or parent in servers:
            servers.add(pid)
            yield int(pid)


def signal_all(pids: list[int], signum: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


async def end_leftovers(directory: Path, program: str, signum: signal.Signals) -> None:
    """Send `signum`; kill what is still there after 2 s. Both servers recover from a kill. Raises
    EmbeddedServerError if even that does not end them."""
    if not (pids := processes_in(directory, program)):
        return
    log.warning("ending the %s that an earlier run left behind (pid %d)", program, min(pids))
    signal_all(pids, signum)
    signal_all(pids, signal.SIGCONT)
    if await _gone(directory, program, _GRACE_SECONDS):
        return
    signal_all(processes_in(directory, program), signal.SIGKILL)
    if not await _gone(directory, program, _KILL_SECONDS):
        raise EmbeddedServerError(
            f"{program} (pid {min(pids)}) in {directory} cannot be ended, not even by SIGKILL"
        )


async def _gone(directory: Path, program: str, seconds: float) -> bool:
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while processes_in(directory, program):
        if clock() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True
