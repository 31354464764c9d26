"""Wraps the whole application, so that unknown addresses get the same treatment as known ones."""

import asyncio
import re
import time
from functools import lru_cache
from random import getrandbits

import structlog
from litestar.enums import ScopeType
from litestar.exceptions import LitestarException
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from app.errors import Unavailable
from app.metrics import HTTP_REQUESTS, HTTP_SECONDS
from app.rest.errors import send_error

# Looking up the labels costs more than the counting.
_requests = lru_cache(HTTP_REQUESTS.labels)
_seconds = lru_cache(HTTP_SECONDS.labels)
log = structlog.get_logger(__name__)

_REQUEST_ID = re.compile(rb"[\w.:-]{1,128}", re.ASCII)
_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]


async def _answer(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """What Litestar raises failed in the middle of an answer, which then stays incomplete: uvicorn
    closes the connection. All earlier failures Litestar has answered."""
    try:
        await app(scope, receive, send)
    except LitestarException as error:
        cause = error.__cause__
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        log.error("answer broken off", path=scope["path"], error=repr(cause))


class RequestContext:
    """Request id in and out, one log line and one measurement a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            return await self._app(scope, receive, send)
        if scope["method"] == "HEAD":  # the server leaves out the answer's body
            scope = {**scope, "method": "GET"}
        await self._handle(scope, receive, send)

    async def _handle(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else f"{getrandbits(128):032x}"
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 0
        extra_headers = [(b"x-request-id", request_id.encode()), *_SECURITY_HEADERS]

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *extra_headers]
            await send(message)

        # Not taken back: the server gives every request a task of its own.
        bind_contextvars(request_id=request_id)
        try:
            await _answer(self._app, scope, receive, send_marked)
        except asyncio.CancelledError:
            # The server ends, and waits no longer. Of a deadline Work makes an Unavailable.
            if status:
                raise
            too_long = Unavailable("the request took too long")
            await send_error(too_long, scope, receive, send_marked)
        self._record(scope, status or 500, time.perf_counter() - began)

    def _record(self, scope: HTTPScope, status: int, seconds: float) -> None:
        route = scope.get("path_template") or "unmatched"
        _requests(scope["method"], route, status).inc()
        _seconds(route).observe(seconds)
        # A health check asks six times a minute, for ever.
        write = log.debug if scope["path"].startswith("/health/") else log.info
        write(
            "request",
            method=scope["method"],
            route=route,
            status=status,
            milliseconds=round(seconds * 1000, 2),
        )
