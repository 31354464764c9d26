"""What processes cost: CPU time, their children's included, and memory."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from harness.processes import environment


def process_tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def processor_seconds(*pids: int) -> float:
    """The CPU time of all threads and children, those that have ended included."""
    return sum(_of_process(process) for pid in pids for process in process_tree(pid))


def _of_process(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system
    return 0.0


def _gauge(pid: int, name: str) -> float:
    """A value from /proc/<pid>/status, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def resident(pid: int) -> float:
    return _gauge(pid, "VmRSS")


def peak(pid: int) -> float:
    """The most MB that were ever resident, or since `reset_peak`."""
    return _gauge(pid, "VmHWM")


def highest_peak(pid: int) -> float:
    """The highest peak of a single process: this one or one of its children."""
    return max(peak(process.pid) for process in process_tree(pid))


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def run_and_meter(*command: str | Path, directory: Path, **variables: str) -> float:
    """Run the program to its end, its output to nowhere; the CPU seconds that it has used. Raises
    CalledProcessError."""
    process = subprocess.Popen(  # pylint: disable=consider-using-with
        command,
        cwd=directory,
        env=environment(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime


class Meter:
    """CPU seconds that the processes have used since the meter was created."""

    def __init__(self, *pids: int) -> None:
        self._read: Callable[[], float] = lambda: processor_seconds(*pids)
        self._before = self._read()

    @property
    def seconds(self) -> float:
        return self._read() - self._before


class CoreMeter:
    """How many cores of the machine were busy, on average, since the meter was created."""

    def __init__(self) -> None:
        self._began, self._before = time.perf_counter(), _busy_seconds()

    @property
    def busy_cores(self) -> float:
        return (_busy_seconds() - self._before) / (time.perf_counter() - self._began)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq
