"""`python main.py` with nothing configured, until it is ready; and the help of the command line."""

import statistics
import time
from collections.abc import Sequence

from benchmarks.lab import Lab
from benchmarks.results import Figures, Line, RowResult, Turn, at_most, compare
from benchmarks.usage import run_and_meter
from harness.service import PYTHON, one_command

WARM, EMPTY = "warm", "first start, empty directory"
SECONDS = "seconds to ready"
PRODUCER, APP = "producer.py --help", "python -m app --help"
LOADED = "what producer.py needs to send"
NOTHING, MILLISECONDS = "an empty program", "CPU ms"
_PROGRAMS: dict[str, Sequence[str]] = {
    PRODUCER: ("producer.py", "--help"),
    APP: ("-m", "app", "--help"),
    LOADED: ("-c", "import app.client.produce, app.messaging.rabbitmq"),
    NOTHING: ("-c", ""),
}
_TIMES = 10


async def measure(lab: Lab) -> RowResult:
    kept = lab.folder("data")
    turns = {
        WARM: lambda: _start(lab, str(kept)),
        EMPTY: lambda: _start(lab, str(lab.folder("data"))),
    }
    comparison = await compare("python main.py, embedded servers", turns, lab.size.rounds)
    programs = {name: _program(lab, words) for name, words in _PROGRAMS.items()}
    helps = await compare("Programs with bytecode", programs, lab.size.rounds)
    lines = [
        Line(
            "Start of the one-process mode, warm",
            comparison.values(WARM, SECONDS),
            must=at_most(5),
            aim=at_most(3),
            unit="s",
        ),
        *(
            Line(
                f"CPU, {name} / {LOADED}",
                helps.ratios(MILLISECONDS, name, LOADED),
                must=at_most(0.6),
                aim=at_most(0.4),
            )
            for name in (PRODUCER, APP)
        ),
    ]
    remarks = [
        "Until GET /health/ready returns 200; it is polled every 20 ms.",
        f"The CPU time of a program is the median of {_TIMES}, from its start to its end. What "
        "producer.py needs to send are its own modules and the libraries for RabbitMQ, imported.",
    ]
    return RowResult(lines, [comparison, helps], remarks)


def _program(lab: Lab, words: Sequence[str]) -> Turn:
    async def take() -> Figures:
        used = [run_and_meter(PYTHON, *words, directory=lab.tree) for _ in range(_TIMES)]
        return {MILLISECONDS: statistics.median(used) * 1e3}

    return take


async def _start(lab: Lab, data: str) -> Figures:
    began = time.perf_counter()
    async with one_command(lab.tree, lab.folder("service"), DATA_DIR=data):
        return {SECONDS: time.perf_counter() - began}
