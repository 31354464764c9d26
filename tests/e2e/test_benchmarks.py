"""The benchmarks run and compare; no test depends on how fast anything is."""

import re
from pathlib import Path

import pytest

from app.settings import ROOT
from benchmarks.__main__ import ROWS
from harness.processes import Process, run
from harness.service import PYTHON

_ROWS = ("writes", "get_report")
_RATIO = re.compile(r"\| ≥ [\d.]+ \| .*\| [\d.,]+ × \|")


def benchmarks(directory: Path, *arguments: str | Path) -> Process:
    command = (PYTHON, "-m", "benchmarks", *arguments)
    return Process("benchmarks", command, {}, directory=ROOT, log=directory / "benchmarks.log")


async def test_a_small_run_writes_ratios_and_leaves_the_prose(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(
        "# Prose\n\n<!-- writes -->what it was<!-- end of writes -->\n\nMore prose.\n", "utf-8"
    )
    options = ("--quick", "--output", page)
    output = await run(benchmarks(tmp_path, *_ROWS, *options), seconds=150)
    written = page.read_text("utf-8")
    for row in _ROWS:
        text = written.partition(f"<!-- {row} -->")[2].partition(f"<!-- end of {row} -->")[0]
        assert _RATIO.search(text), text
        assert text.strip() in output
    assert written.startswith("# Prose\n") and "\n\nMore prose.\n" in written
    assert "what it was" not in written and "cores" in written


@pytest.mark.long
async def test_every_row_runs(tmp_path: Path) -> None:
    """A row that nobody has run for a while breaks when the tables that it uses change."""
    page = tmp_path / "performance.md"
    page.write_text("".join(f"<!-- {row} -->\n<!-- end of {row} -->\n" for row in ROWS), "utf-8")
    options = ("--quick", "--output", page)
    output = await run(benchmarks(tmp_path, *options), seconds=900)
    assert "Not measured" not in page.read_text("utf-8"), output


async def test_an_unknown_row_is_an_error(tmp_path: Path) -> None:
    process = benchmarks(tmp_path, "no_such_row")
    process.start()
    assert await process.ends() == 2
    assert "no such row: no_such_row" in process.output
