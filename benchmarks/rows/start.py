"""`python main.py` with nothing configured, until it is ready."""

import time

from benchmarks.lab import Lab
from benchmarks.results import Figures, Line, RowResult, at_most, compare
from harness.service import one_command

WARM, EMPTY = "warm", "first start, empty directory"
SECONDS = "seconds to ready"


async def measure(lab: Lab) -> RowResult:
    kept = lab.folder("data")
    turns = {
        WARM: lambda: _start(lab, str(kept)),
        EMPTY: lambda: _start(lab, str(lab.folder("data"))),
    }
    comparison = await compare("python main.py, embedded servers", turns, lab.size.rounds)
    seconds = comparison.values(WARM, SECONDS)
    line = Line(
        "Start of the one-process mode, warm", seconds, must=at_most(5), aim=at_most(3), unit="s"
    )
    return RowResult(
        [line], [comparison], ["Until GET /health/ready returns 200; it is polled every 20 ms."]
    )


async def _start(lab: Lab, data: str) -> Figures:
    began = time.perf_counter()
    async with one_command(lab.tree, lab.folder("service"), DATA_DIR=data):
        return {SECONDS: time.perf_counter() - began}
