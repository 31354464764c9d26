"""What processes cost: CPU time and memory, including their children."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def process_tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def processor_seconds(*pids: int) -> float:
    """CPU seconds of all threads, of running children and of children that have ended."""
    return sum(_of_process(process) for pid in pids for process in tree(pid))


def _of_process(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system
    return 0.0


def _gauge(pid: int, name: str) -> float:
    """A field of /proc/<pid>/status, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def resident(pid: int) -> float:
    return _gauge(pid, "VmRSS")


def peak(pid: int) -> float:
    """The most that the process has had resident since its start or since `forget_peak`, in MB."""
    return _gauge(pid, "VmHWM")


def highest_peak(pid: int) -> float:
    """The highest peak among the process and its children, in MB."""
    return max(peak(process.pid) for process in tree(pid))


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


class Meter:
    """Measures CPU seconds since it was created."""

    def __init__(self, *pids: int) -> None:
        self._read: Callable[[], float] = lambda: processor_seconds(*pids)
        self._before = self._read()

    @property
    def seconds(self) -> float:
        return self._read() - self._before


class Machine:
    """Measures how many cores have been busy since it was created, with any process."""

    def __init__(self) -> None:
        self._began, self._before = time.perf_counter(), _busy_seconds()

    @property
    def busy_cores(self) -> float:
        return (_busy_seconds() - self._before) / (time.perf_counter() - self._began)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq
