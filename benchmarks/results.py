"""The result of a row: the figures of all participants, and the values that have a goal."""

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

Figures = dict[str, float]
Turn = Callable[[], Awaitable[Figures]]


@dataclass(frozen=True)
class Goal:
    limit: float
    at_least: bool

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


def at_least(limit: float) -> Goal:
    return Goal(limit, at_least=True)


def at_most(limit: float) -> Goal:
    return Goal(limit, at_least=False)


@dataclass(frozen=True)
class Line:
    """A measured quantity, one value per round, and its goals if it has any."""

    what: str
    values: Sequence[float]
    must: Goal | None = None
    aim: Goal | None = None
    unit: str = "×"

    @property
    def verdict(self) -> str:
        median = statistics.median(self.values)
        if self.must and not self.must.met(median):
            return "**missed**"
        if self.aim:
            return "aim met" if self.aim.met(median) else "met" if self.must else "aim missed"
        return "met" if self.must else ""


@dataclass
class Comparison:
    """Participants that take turns at one task; `results` has one entry per round for each."""

    title: str
    results: dict[str, list[Figures]] = field(default_factory=dict)

    def values(self, name: str, figure: str) -> list[float]:
        return [figures[figure] for figures in self.results[name]]

    def ratios(self, figure: str, of: str, to: str) -> list[float]:
        """One per round: if the machine is slow for a while, both sides of a ratio are slow."""
        pairs = zip(self.values(of, figure), self.values(to, figure), strict=True)
        return [left / right for left, right in pairs if right]


@dataclass(frozen=True)
class RowResult:
    lines: Sequence[Line]
    comparisons: Sequence[Comparison] = ()
    remarks: Sequence[str] = ()


async def compare(
    title: str, turns: Mapping[str, Turn], rounds: int, warm_up: bool = True
) -> Comparison:
    """Each participant takes one turn per round; every other round goes in reverse order."""
    comparison = Comparison(title, {name: [] for name in turns})
    for turn in turns.values() if warm_up else ():
        await turn()
    for number in range(rounds):
        for name in list(turns) if number % 2 == 0 else reversed(list(turns)):
            comparison.results[name].append(await turns[name]())
    return comparison
