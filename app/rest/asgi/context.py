"""The outermost layer, which sees every request, whether or not its path is known."""

import asyncio
import re
import time
from functools import lru_cache
from random import getrandbits

import structlog
from litestar.enums import ScopeType
from litestar.exceptions import LitestarException
from litestar.types import ASGIApp, HTTPDisconnectEvent, HTTPScope, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from app.errors import Unavailable
from app.metrics import HTTP_REQUESTS, HTTP_SECONDS
from app.rest.errors import send_error

# Looking up the labels costs more than counting.
_requests = lru_cache(HTTP_REQUESTS.labels)
_seconds = lru_cache(HTTP_SECONDS.labels)
log = structlog.get_logger(__name__)

# In the state of a request that the limiter refuses: see limiter.py.
REFUSED = "refused"

_REQUEST_ID = re.compile(rb"[\w.:-]{1,128}", re.ASCII)
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
# Responses have names and addresses in them: no browser and no proxy may keep one.
_DATA_HEADERS = [*_SECURITY_HEADERS, (b"cache-control", b"no-store")]
_WITHOUT_DATA = ("/docs", "/schema/")


def _headers_of(path: str) -> list[tuple[bytes, bytes]]:
    return _SECURITY_HEADERS if path.startswith(_WITHOUT_DATA) else _DATA_HEADERS


async def _gone() -> HTTPDisconnectEvent:
    """Ends a stream: a client that wants no body looks like one that has left."""
    return {"type": "http.disconnect"}


class RequestContext:
    """Gives each request an id, which its logs and its response carry, one log line and one
    measurement."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else f"{getrandbits(128):032x}"
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 0
        extra_headers = [(b"x-request-id", request_id.encode()), *_headers_of(scope["path"])]

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *extra_headers]
            await send(message)

        # Never unbound: the server runs every request in a task of its own.
        bind_contextvars(request_id=request_id)
        try:
            await _respond(self._app, scope, receive, send_marked)
        except asyncio.CancelledError:
            # The server is stopping and waits no longer. It is no deadline: the unit of work turns
            # an expired deadline into Unavailable.
            if status:
                raise
            too_long = Unavailable("the request took too long")
            await send_error(too_long, scope, receive, send_marked)
        self._record(scope, status or 500, time.perf_counter() - began)

    def _record(self, scope: HTTPScope, status: int, seconds: float) -> None:
        route = scope.get("path_template") or "unmatched"
        _requests(scope["method"], route, status).inc()
        _seconds(route).observe(seconds)
        # A health check comes six times a minute, day and night; refused requests by thousands.
        is_dull = scope["path"].startswith("/health/") or REFUSED in scope["state"]
        write = log.debug if is_dull else log.info
        write(
            "request",
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 2),
        )


async def _respond(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Litestar makes a response of every failure, but for one in the middle of a response: that one
    it raises. The response stays incomplete, and uvicorn closes the connection."""
    try:
        await app(scope, receive, send)
    except LitestarException as error:
        cause = error.__cause__
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        log.error("answer broken off", path=scope["path"], error=repr(cause))
