"""Decides which versions of a value a read may still return."""

import asyncio
import time
from bisect import bisect_right
from math import inf

MOST_HIDDEN_SECONDS = 0.5


class Ledger:
    """The history of one value, as its writers saw it. Version 0 existed before the first write.

    Version x is stale for a read if x was acknowledged before some version y was sent, and y was
    acknowledged before the read began. With this rule writers of one value may overlap."""

    def __init__(self) -> None:
        self._sent = [0.0]
        self._acknowledged = [0.0]
        self._lost: dict[int, float] = {}
        self.floor = (
            0.0  # when the newest acknowledged version was sent; take it before the read begins
        )

    def begin(self) -> int:
        self._sent.append(time.monotonic())
        self._acknowledged.append(inf)
        return len(self._sent) - 1

    def acknowledge(self, version: int) -> None:
        self._acknowledged[version] = min(self._acknowledged[version], time.monotonic())
        self.floor = max(self.floor, self._sent[version])

    def lose(self, version: int) -> None:
        """Its writer died after the commit: after MOST_HIDDEN_SECONDS it counts as acknowledged."""
        self._lost[version] = time.monotonic()
        asyncio.get_running_loop().call_later(MOST_HIDDEN_SECONDS, self.acknowledge, version)

    def judge(self, version: int, floor: float, began: float) -> tuple[bool, float]:
        """Whether the version is stale, and for how many seconds a newer one had existed when the
        read began."""
        stale = self._acknowledged[version] < floor
        return stale, self._hidden(version, began) if stale or self._lost else 0.0

    def _hidden(self, version: int, began: float) -> float:
        newer = range(bisect_right(self._sent, self._acknowledged[version]), len(self._sent))
        since = (self._lost.get(one, self._acknowledged[one]) for one in newer)
        return max(0.0, began - min(since, default=inf))


class Count:
    """A value that every write increments: how many pieces of a product are sold."""

    def __init__(self) -> None:
        self._moments: list[float] = []

    @property
    def floor(self) -> int:
        return len(self._moments)

    def acknowledge(self) -> None:
        self._moments.append(time.monotonic())

    def judge(self, count: int, floor: int, began: float) -> tuple[bool, float]:
        stale = count < floor
        return stale, began - self._moments[count] if stale else 0.0
