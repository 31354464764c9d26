"""Bounds how many requests work on the database at once, and refuses those that would wait too
long for their turn. Refusing costs a small part of serving, so the service does as much under any
number of clients as under a few.
"""

import asyncio
import math
import time
from collections import deque
from types import TracebackType

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

from app.metrics import HTTP_PLACES, HTTP_REFUSED
from app.rest.asgi.context import REFUSED
from app.rest.errors import PROBLEM_JSON, problem, send_error
from app.runtime.deadlines import REQUEST_SECONDS

log = structlog.get_logger(__name__)

# Where a request's state has its place.
PLACE = "place"
MOST_BODY_BYTES = 256 * 1024

# These need no database, or ask it with connections of their own.
_FREE = ("/health/", "/metrics", "/docs", "/schema/")
_WITH_BODY = {"POST", "PUT", "PATCH"}

# How long a request waits before it is refused. A short queue, which any burst makes, has time,
# unless others are being refused.
PATIENCE_SECONDS = 1.0
SHORT_QUEUE = 64
PATIENCE_IN_A_CROWD_SECONDS = 0.15
# Refusals go out at a steady pace. Many clients repeat a refused request at once: answered at once,
# they would use the event loop for nothing but refusals.
_TICK_SECONDS = 0.02
_LEAST_PER_TICK = 4
_SECONDS_BETWEEN_WARNINGS = 10.0

_REQUEST_ID = b"REQUEST_ID"
_BODY: bytes = problem(
    _REQUEST_ID.decode(), 503, "there are too many requests; nothing was done; try again"
).content
_HEADERS = [(b"content-type", PROBLEM_JSON.encode()), (b"retry-after", b"1")]


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


class Places:
    """Requests that find no place wait in a queue, the oldest first. Whoever waits too long is
    refused. While any are being refused, there is more work than can be done, and the newest is
    first: that serves some in good time instead of all of them late."""

    def __init__(self, limit: VegasLimit) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[tuple[float, asyncio.Future[bool]]] = deque()
        self._refused: deque[asyncio.Future[bool]] = deque()
        self._is_ticking = False
        self._untold = 0
        self._told_at = -_SECONDS_BETWEEN_WARNINGS

    async def take(self) -> Place | None:
        """None if it was refused."""
        if self._taken < self._limit.value and not self._waiting:
            self._taken += 1
        elif not await self._wait():
            return None
        return Place(self)

    async def _wait(self) -> bool:
        loop = asyncio.get_running_loop()
        given: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((time.monotonic(), given))
        if not self._is_ticking:
            self._is_ticking = True
            loop.call_later(_TICK_SECONDS, self._tick)
        try:
            return await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled() and given.result():
                self._taken -= 1
                self._admit()
            raise

    def give_back(self, seconds: float | None) -> None:
        """After so long. None: a failure, which tells nothing about how long the work takes."""
        self._taken -= 1
        if seconds is not None:
            self._limit.sample(seconds)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._taken < self._limit.value:
            _, given = self._waiting.pop() if self._refused else self._waiting.popleft()
            if not given.done():
                self._taken += 1
                given.set_result(True)

    def _tick(self) -> None:
        now = time.monotonic()
        is_crowd = self._refused or len(self._waiting) > SHORT_QUEUE
        patience = PATIENCE_IN_A_CROWD_SECONDS if is_crowd else PATIENCE_SECONDS
        while self._waiting and now - self._waiting[0][0] > patience:
            self._refused.append(self._waiting.popleft()[1])
        # All that wait now are told within the time that any request may take.
        share = math.ceil(len(self._refused) * _TICK_SECONDS / REQUEST_SECONDS)
        for _ in range(min(max(share, _LEAST_PER_TICK), len(self._refused))):
            given = self._refused.popleft()
            if not given.done():
                given.set_result(False)
                self._untold += 1
        self._warn(now)
        self._is_ticking = bool(self._waiting or self._refused)
        if self._is_ticking:
            asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _warn(self, now: float) -> None:
        """A line for each would be too many: see metrics.py for their number."""
        if self._untold and now - self._told_at > _SECONDS_BETWEEN_WARNINGS:
            log.warning("requests refused", count=self._untold, places=self._limit.value)
            self._untold, self._told_at = 0, now


class Limiter:
    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._places = Places(VegasLimit(most))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["path"].startswith(_FREE):
            return await self._app(scope, receive, send)
        if scope["method"] in _WITH_BODY and not _is_too_large(scope):
            try:
                receive = await _received(receive)
            except Exception as error:
                return await send_error(error, scope, receive, send)
        place = await self._places.take()
        if place is None:
            return await _refuse(scope, send)
        scope["state"][PLACE] = place

        async def send_noted(message: Message) -> None:
            # From here on the request waits for its client, not for the database.
            place.release()
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            place.release()


def _is_too_large(scope: HTTPScope) -> bool:
    """By its own word: Litestar rejects such a body without reading it."""
    return int(dict(scope["headers"]).get(b"content-length", b"0")) > MOST_BODY_BYTES


async def _received(receive: Receive) -> Receive:
    """With the whole body, or as much of one that is too large: who sends slowly holds no place."""
    messages: deque[HTTPReceiveMessage] = deque()
    size = 0
    while size <= MOST_BODY_BYTES:
        messages.append(message := await receive())  # type: ignore[arg-type]
        if message["type"] != "http.request" or not message["more_body"]:
            break
        size += len(message["body"])

    async def receive_again() -> HTTPReceiveMessage:
        return messages.popleft() if messages else await receive()  # type: ignore[return-value]

    return receive_again


async def _refuse(scope: HTTPScope, send: Send) -> None:
    HTTP_REFUSED.inc()
    scope["state"][REFUSED] = True
    body = _BODY.replace(_REQUEST_ID, str(scope["state"]["request_id"]).encode())
    headers = [*_HEADERS, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
