"""Measures the service and its peers on private servers, and writes the figures to a page.

python -m benchmarks [ROW ...] [--rounds N] [--quick] [--output FILE]
"""

import argparse
import asyncio
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from app.settings import ROOT
from benchmarks.lab import QUICK, Lab, Size
from benchmarks.machine import describe
from benchmarks.markdown import replaced, section
from benchmarks.results import RowResult

ROWS = (
    "cached_reads",
    "uncached_reads",
    "deep_pages",
    "lists",
    "writes",
    "get_report",
    "orders",
    "order_latency",
    "nightly_report",
    "producer",
    "memory",
    "start",
    "growth",
    "overload",
    "newcomers",
    "fairness",
    "web_processes",
    "costs",
    "partitions",
)
PAGE = ROOT / "docs" / "performance.md"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the service and its peers on private servers.",
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"some of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, help="how many times each one is measured; default 5")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it runs")
    parser.add_argument("--output", type=Path, help="the page; default docs/performance.md")
    chosen = parser.parse_args()
    if unknown := set(chosen.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    return chosen


async def run(rows: Sequence[str], size: Size, command: str, page: Path | None) -> bool:
    """True if every row could be measured. Without a page the figures are only printed."""
    complete = True
    _write_section(page, "machine", "\n".join(f"- {line}" for line in await describe()))
    for name in rows:
        began = datetime.now(UTC)
        try:
            async with Lab.opened(size) as lab:
                result: RowResult = await import_module(f"benchmarks.rows.{name}").measure(lab)
            text = section(result)
        except Exception as error:
            traceback.print_exc()
            complete, text = False, f"**Not measured**: {error}"
        note = f"`{command}`, {size.rounds} rounds, {began:%Y-%m-%d %H:%M} UTC"
        print(f"\n## {name}\n\n{text}\n\n{note}", flush=True)
        _write_section(page, name, f"{text}\n\n{note}")
    return complete


def _write_section(page: Path | None, name: str, text: str) -> None:
    if page:
        before = page.read_text("utf-8") if page.exists() else ""
        page.write_text(replaced(before, name, text), "utf-8")


def main() -> None:
    chosen = _arguments()
    default = QUICK if chosen.quick else Size()
    size = Size(chosen.rounds or default.rounds, default.seconds, default.scale)
    page = chosen.output or (None if chosen.quick else PAGE)
    command = " ".join(["python -m benchmarks", *sys.argv[1:]])
    sys.exit(0 if asyncio.run(run(chosen.rows or ROWS, size, command, page)) else 1)


if __name__ == "__main__":
    main()
