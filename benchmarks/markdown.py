"""Tables of the page. Each section stands between markers; the prose outside them is kept."""

import re
import statistics
from collections.abc import Iterable, Sequence

from benchmarks.results import Comparison, Line, RowResult


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def spread(values: Sequence[float]) -> str:
    """The median, with the least and the greatest value in brackets."""
    middle = _number(statistics.median(values))
    return f"{middle} ({_number(min(values))}..{_number(max(values))})" if values[1:] else middle


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def section(result: RowResult) -> str:
    remarks = "\n".join(f"- {remark}" for remark in result.remarks)
    parts = [_promises(result.lines), *map(_figures, result.comparisons), remarks]
    return "\n\n".join(part for part in parts if part)


def _promises(lines: Sequence[Line]) -> str:
    header = ("what", "must", "aim", "measured: median (least..greatest)", "")
    rows = [
        (
            line.what,
            str(line.must or ""),
            str(line.aim or ""),
            f"{spread(line.values)} {line.unit}",
            line.verdict,
        )
        for line in lines
        if line.values
    ]
    return table(header, rows) if rows else ""


def _figures(comparison: Comparison) -> str:
    names = list(dict.fromkeys(name for taken in comparison.results.values() for name in taken[0]))
    rows = [
        [name, *(spread([f[n] for f in taken]) if n in taken[0] else "" for n in names)]
        for name, taken in comparison.results.items()
    ]
    return table([comparison.title, *names], rows)


def replaced(page: str, name: str, text: str) -> str:
    """The page with the text between the markers of that name, which are appended if missing."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    marked = f"{begin}\n{text}\n{end}"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if pattern.search(page):
        return pattern.sub(lambda _: marked, page)
    return f"{page.rstrip()}\n\n{marked}\n".lstrip()
