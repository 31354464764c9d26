"""Reports as a picture."""

from math import ceil
from typing import Any, NamedTuple

from litestar import Response

from app.rest.pages import picture
from app.schemas.reports import ReportDay, ReportSummary

_WIDTH, _HEIGHT = 800, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 16, 56, 36
_MOST_LINES, _MOST_DATES = 5, 8
_NICE = (1, 2, 5, 10, 20)


class _Bar(NamedTuple):
    x: float
    y: float
    height: float


class _Day(NamedTuple):
    """`date` is empty where there is no room for it."""

    told: ReportDay
    middle: float
    date: str
    orders: _Bar
    units: _Bar


def report_chart(summary: ReportSummary) -> Response[Any]:
    """Two bars for each day. An order has at least one piece, so the pieces are the higher ones."""
    lines = _lines(max(day.units for day in summary.days))
    scale = (_HEIGHT - _TOP - _BOTTOM) / lines[-1]
    room = (_WIDTH - _LEFT - _RIGHT) / len(summary.days)
    return picture(
        "report.svg",
        size=(_WIDTH, _HEIGHT),
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        bottom=_HEIGHT - _BOTTOM,
        summary=summary,
        lines=[(number, _HEIGHT - _BOTTOM - number * scale) for number in lines],
        bar_width=room * 0.4,
        days=[_drawn(n, day, room, scale, len(summary.days)) for n, day in enumerate(summary.days)],
    )


def _lines(highest: int) -> range:
    """From 0 to the first that is not below the highest bar, in steps of 1, 2 or 5 and zeros."""
    power = 10 ** max(0, len(str(highest)) - 2)
    step = next(n * power for n in _NICE if n * power * _MOST_LINES >= highest)
    return range(0, max(1, ceil(highest / step)) * step + 1, step)


def _drawn(number: int, day: ReportDay, room: float, scale: float, days: int) -> _Day:
    x = _LEFT + number * room
    is_dated = number % ceil(days / _MOST_DATES) == 0
    return _Day(
        day,
        x + room / 2,
        f"{day.report_date:%m-%d}" if is_dated else "",
        _bar(x + room * 0.1, day.orders, scale),
        _bar(x + room * 0.5, day.units, scale),
    )


def _bar(x: float, number: int, scale: float) -> _Bar:
    return _Bar(x, _HEIGHT - _BOTTOM - number * scale, number * scale)
