"""The outermost layer, which sees every request, whether or not its path is known."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Iterable, Mapping
from functools import lru_cache
from random import getrandbits
from types import MappingProxyType
from typing import TYPE_CHECKING

import structlog
from litestar.enums import ScopeType
from litestar.exceptions import LitestarException
from litestar.types import ASGIApp, HTTPDisconnectEvent, HTTPScope, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from app.errors import Unavailable
from app.logs import RequestLog
from app.metrics import HTTP_REQUESTS, HTTP_SECONDS, Tally
from app.rest.asgi.cross_origin import CrossOrigin
from app.rest.asgi.rate_limit import RATE
from app.rest.errors import TOLD, send_error
from app.runtime import tracing
from app.settings import Settings

if TYPE_CHECKING:
    from app.runtime.spans import RequestSpan

_requests = RequestLog(__name__)
log = structlog.get_logger(__name__)

# In the state of a request of which too many come: see limiter.py and gatekeeper.py.
REFUSED = "refused"
# Where a request's state has its place, if it needs one: see limiter.py.
PLACE = "place"
# In the state of a request that has waited in the protocol: see direct_protocol.py.
BEGAN = "began"
# Orchestrators and load balancers ask these by the address of the machine, or without a Host.
PROBES = ("/health/", "/metrics")
NOTHING: Mapping[str, str] = MappingProxyType({})
# A read that takes so long is not ordinary: its line is always written.
_SLOW_SECONDS = 0.25
# The route of a request that no route was found for, or looked for.
UNMATCHED = "unmatched"

_REQUEST_ID = re.compile(rb"[\w.:-]{1,128}", re.ASCII)
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # With `no-referrer`, a browser sends `Origin: null` for the forms of our own pages.
    (b"referrer-policy", b"same-origin"),
]
# Responses have names and addresses in them: no browser and no proxy may keep one.
_DATA_HEADERS = [*_SECURITY_HEADERS, (b"cache-control", b"no-store")]
_WITHOUT_DATA = ("/docs", "/schema/")


@lru_cache  # looking up the labels costs more than counting
def _tally(method: str, route: str, status: int) -> Tally:
    """Of the seconds of such requests."""
    requests, durations = HTTP_REQUESTS.labels(method, route, status), HTTP_SECONDS.labels(route)

    def add_up(seconds: list[float]) -> None:
        requests.inc(len(seconds))
        durations.observe_all(seconds)

    return Tally(add_up)


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The client's, if it has sent a usable one."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else f"{getrandbits(128):032x}"


class CommonHeaders:
    """What every response has, whoever makes it."""

    def __init__(self, settings: Settings) -> None:
        self._cross_origin = CrossOrigin.of(settings)

    def of(self, request_id: str, path: str, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        """`origin` is the request's, if it has sent one."""
        others = _SECURITY_HEADERS if path.startswith(_WITHOUT_DATA) else _DATA_HEADERS
        headers = [(b"x-request-id", request_id.encode()), *others]
        if self._cross_origin:
            headers += self._cross_origin.headers(origin)
        return headers


def record(
    request_id: str,
    method: str,
    route: str,
    path: str,
    status: int,
    seconds: float,
    *,
    is_dull: bool = False,
    told: Mapping[str, str] = NOTHING,
    span: "RequestSpan | None" = None,
) -> None:
    """The log line, the measurement and the span of a request."""
    if span:
        span.end(request_id, method, route, status)
    _tally(method, route, status).note(seconds)
    # A health check comes six times a minute, day and night; refused requests by thousands.
    level = logging.DEBUG if is_dull or route.startswith("/health/") else logging.INFO
    if level < RequestLog.least:
        return
    milliseconds = round(seconds * 1000, 2)
    is_ordinary = method == "GET" and status < 400 and seconds < _SLOW_SECONDS
    _requests.write(
        level,
        request_id,
        method,
        route,
        path,
        status,
        milliseconds,
        told,
        is_ordinary=is_ordinary,
    )


def _created(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {"location": value.decode() for name, value in headers if name == b"location"}


async def _gone() -> HTTPDisconnectEvent:
    """Ends a stream: a client that wants no body looks like one that has left."""
    return {"type": "http.disconnect"}


class RequestContext:
    """Gives each request an id, which its logs and its response carry, one log line and one
    measurement."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._common = CommonHeaders(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            return await self._app(scope, receive, send)
        if scope["method"] != "HEAD":
            return await self._handle(scope, receive, send)
        await self._handle_head(scope, send)

    async def _handle_head(self, scope: HTTPScope, send: Send) -> None:
        """As a GET; the server leaves out the body. What is streamed is not even made."""
        ended = False

        async def send_noted(message: Message) -> None:
            nonlocal ended
            ended = message["type"] == "http.response.body" and not message["more_body"]
            await send(message)

        await self._handle({**scope, "method": "GET"}, _gone, send_noted)
        if not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _handle(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        request_id = scope.setdefault("state", {}).setdefault("request_id", request_id_of(headers))
        began = scope["state"].get(BEGAN) or time.perf_counter()
        status = 0
        extra_headers = self._common.of(request_id, scope["path"], headers.get(b"origin"))
        told = scope["state"].setdefault(TOLD, {})

        def send_marked(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status == 201:
                    told.update(_created(message["headers"]))
                rate = scope["state"].get(RATE, ())
                message["headers"] = [*message["headers"], *extra_headers, *rate]
            return send(message)

        # Never unbound: the server runs every request in a task of its own.
        bind_contextvars(request_id=request_id)
        span = None
        if not scope["path"].startswith(PROBES):
            span = tracing.request(headers, began)
        try:
            with tracing.active(span):
                await self._app(scope, receive, send_marked)
        except LitestarException as error:
            _tell_broken_off(scope, error)
        except asyncio.CancelledError:
            # The server is stopping and waits no longer. It is no deadline: the unit of work turns
            # an expired deadline into Unavailable.
            if status:
                raise
            too_long = Unavailable("the request took too long")
            await send_error(too_long, scope, receive, send_marked)
        finally:
            if place := scope["state"].get(PLACE):
                place.release()
        record(
            request_id,
            scope["method"],
            scope.get("path_template") or UNMATCHED,
            scope["path"],
            status or 500,
            time.perf_counter() - began,
            is_dull=REFUSED in scope["state"],
            told=told,
            span=span,
        )


def _tell_broken_off(scope: HTTPScope, error: LitestarException) -> None:
    """Litestar makes a response of every failure, but for one in the middle of a response: that one
    it raises. The response stays incomplete, and uvicorn closes the connection."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    log.error("answer broken off", path=scope["path"], error=repr(cause))
