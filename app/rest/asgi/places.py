"""How many requests work on the database at once, and which of the others wait for their turn, or
are refused because they would wait too long. Refusing costs a small part of serving, so the service
does as much under any number of clients as under a few.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

import structlog

from app.metrics import HTTP_PLACES, HTTP_REFUSED
from app.runtime.deadlines import REQUEST_SECONDS

log = structlog.get_logger(__name__)

# How long a request waits before it is refused. A short queue, which any burst makes, has time,
# unless others are being refused.
PATIENCE_SECONDS = 1.0
SHORT_QUEUE = 64
PATIENCE_IN_A_CROWD_SECONDS = 0.15
# Refusals go out at a steady pace. Many clients repeat a refused request at once: answered at once,
# they would use the event loop for nothing but refusals. Several at a time, since a process that
# wakes up for a few spends more on the waking than on them.
_TICK_SECONDS = 0.075
_LEAST_PER_TICK = 15
_SECONDS_BETWEEN_WARNINGS = 10.0


class VegasLimit:
    """How many requests may work at once, by the algorithm of TCP Vegas.

    Requests that work at once wait for each other: in the event loop, in the database. If one takes
    twice as long as it would alone, half of them wait. Vegas keeps the number that waits small, but
    above zero. So it finds the least limit that keeps the bottleneck busy, whatever that is."""

    LEAST = 4
    # Between these numbers of requests that wait, the limit stays.
    _FEW, _MANY = 3, 6
    _PROBE_SECONDS = 30.0

    def __init__(self, most: int) -> None:
        self.value = most
        self._most = most
        self._fastest = float("inf")
        self._probe_at = 0.0
        self._count = 0
        self._sum = 0.0
        HTTP_PLACES.set(most)

    def sample(self, seconds: float) -> None:
        """A request has taken so long. Adapts the limit once for each round of requests."""
        self._count += 1
        self._sum += seconds
        if self._count < 2 * self.value:
            return
        mean = self._sum / self._count
        self._count, self._sum = 0, 0.0
        self.value = self._adapted(mean, time.monotonic())
        HTTP_PLACES.set(self.value)

    def _adapted(self, mean: float, now: float) -> int:
        if now > self._probe_at:
            # What a request takes alone may have changed: measure it again, with few at once.
            self._probe_at = now + self._PROBE_SECONDS
            self._fastest = float("inf")
            return self.LEAST
        self._fastest = min(self._fastest, mean)
        waiting = self.value * (1 - self._fastest / mean)
        if waiting < self._FEW:
            return min(self.value + 1, self._most)
        if waiting > self._MANY:
            return max(self.value - 1, self.LEAST)
        return self.value


class Place:
    """The right to work on the database. Leaving its context gives it back, as `release` does."""

    def __init__(self, places: "Places") -> None:
        self._places: Places | None = places
        self._since = time.monotonic()

    def release(self, has_succeeded: bool = False) -> None:
        if self._places:
            places, self._places = self._places, None
            places.give_back(time.monotonic() - self._since if has_succeeded else None)

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release(has_succeeded=kind is None)


class Turn(Protocol):
    """Who waits for a place, as a Future would."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, place: Place | None, /) -> None:
        """A place when it is one's turn, or None if one waits too long."""


class Places:
    """Requests that find no place wait in a queue, the oldest first. Whoever waits too long is
    refused. While any are being refused, there is more work than can be done, and the newest is
    first: that serves some in good time instead of all of them late."""

    def __init__(self, limit: VegasLimit, is_shared: Callable[[], bool] = lambda: False) -> None:
        """Half of the places are for requests while `is_shared` says that others do work in this
        process too."""
        self._limit = limit
        self._is_shared = is_shared
        self._taken = 0
        self._waiting: deque[tuple[float, Turn]] = deque()
        self._refused: deque[Turn] = deque()
        self._is_ticking = False
        self._untold = 0
        self._told_at = -_SECONDS_BETWEEN_WARNINGS

    @property
    def has_room(self) -> bool:
        return not self._waiting and self._has_place

    @property
    def _has_place(self) -> bool:
        most = self._limit.value // 2 if self._is_shared() else self._limit.value
        return self._taken < most

    async def take(self) -> Place | None:
        """None if it was refused."""
        if self.has_room:
            self._taken += 1
            return Place(self)
        turn: asyncio.Future[Place | None] = asyncio.get_running_loop().create_future()
        self.queue(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            # The place may have come already.
            if not turn.cancelled() and (place := turn.result()):
                place.release()
            raise

    def queue(self, turn: Turn) -> None:
        self._waiting.append((time.monotonic(), turn))
        if not self._is_ticking:
            self._is_ticking = True
            asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def give_back(self, seconds: float | None) -> None:
        """After so long. None: a failure, which tells nothing about how long the work takes."""
        self._taken -= 1
        if seconds is not None:
            self._limit.sample(seconds)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._has_place:
            _, turn = self._waiting.pop() if self._refused else self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(Place(self))

    def _tick(self) -> None:
        now = time.monotonic()
        is_crowd = self._refused or len(self._waiting) > SHORT_QUEUE
        patience = PATIENCE_IN_A_CROWD_SECONDS if is_crowd else PATIENCE_SECONDS
        while self._waiting and now - self._waiting[0][0] > patience:
            self._refused.append(self._waiting.popleft()[1])
        # All that wait now are told within the time that any request may take.
        share = math.ceil(len(self._refused) * _TICK_SECONDS / REQUEST_SECONDS)
        told = 0
        for _ in range(min(max(share, _LEAST_PER_TICK), len(self._refused))):
            turn = self._refused.popleft()
            if not turn.done():
                turn.set_result(None)
                told += 1
        HTTP_REFUSED.inc(told)
        self._untold += told
        self._warn(now)
        self._is_ticking = bool(self._waiting or self._refused)
        if self._is_ticking:
            asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _warn(self, now: float) -> None:
        """A line for each would be too many: see metrics.py for their number."""
        if self._untold and now - self._told_at > _SECONDS_BETWEEN_WARNINGS:
            log.warning("requests refused", count=self._untold, places=self._limit.value)
            self._untold, self._told_at = 0, now
