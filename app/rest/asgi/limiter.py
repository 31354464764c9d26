"""Gives each request its place, and refuses those that find none."""

from collections import deque

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Message, Receive, Scope, Send

from app.rest.asgi.context import PLACE, REFUSED
from app.rest.asgi.places import Places
from app.rest.asgi.protocol import WHOLE
from app.rest.errors import PROBLEM_JSON, problem, send_error

MOST_BODY_BYTES = 256 * 1024

# These need no database, or ask it with connections of their own.
_FREE = ("/health/", "/metrics", "/docs", "/schema/", "/login", "/logout")
# What is read from the broker needs none either, and waits long for a slow one. A retry by the API
# does need one: it keeps its Idempotency-Key there.
_OF_THE_BROKER = "/dead-letters"
_WITH_BODY = {"POST", "PUT", "PATCH"}

_REQUEST_ID = b"REQUEST_ID"
_BODY: bytes = problem(
    _REQUEST_ID.decode(), 503, "there are too many requests; nothing was done; try again"
).content
_HEADERS = [(b"content-type", PROBLEM_JSON.encode()), (b"retry-after", b"1")]


def needs_place(method: str, path: str) -> bool:
    """The status page needs none: it is one snapshot for all."""
    if path.startswith(_OF_THE_BROKER):
        return path.rstrip("/").endswith("/retry")
    return method != "OPTIONS" and path != "/" and not path.startswith(_FREE)


def refusal(request_id: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of a 503."""
    body = _BODY.replace(_REQUEST_ID, request_id.encode())
    return [*_HEADERS, (b"content-length", b"%d" % len(body))], body


class Limiter:
    """A request may have its place already: see direct_protocol.py. What keeps it until its end
    gives it back in context.py."""

    def __init__(self, app: ASGIApp, places: Places) -> None:
        self._app = app
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or not needs_place(scope["method"], scope["path"]):
            return await self._app(scope, receive, send)
        if _waits_for_body(scope) and not _is_too_large(scope):
            try:
                receive = await _received(receive)
            except Exception as error:
                return await send_error(error, scope, receive, send)
        place = scope["state"].get(PLACE) or await self._places.take()
        if place is None:
            return await _refuse(scope, send)
        scope["state"][PLACE] = place

        async def send_noted(message: Message) -> None:
            # From here on the request waits for its client, not for the database.
            place.release()
            await send(message)

        await self._app(scope, receive, send_noted)


def _waits_for_body(scope: HTTPScope) -> bool:
    return scope["method"] in _WITH_BODY and WHOLE not in scope["state"]


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
    scope["state"][REFUSED] = True
    headers, body = refusal(str(scope["state"]["request_id"]))
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
