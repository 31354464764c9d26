"""Rejects requests that the application must not see: an unknown Host, a page of another origin
that may not call the API, no API key, a body that is not plain JSON or comes too slowly."""

import asyncio
import re
from ipaddress import ip_address
from typing import Any, NamedTuple

import structlog
from litestar import Request, Response
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Receive, Scope, Send

from app.logs import Thinned
from app.rest.asgi.client_address import ClientAddresses, Connection
from app.rest.asgi.context import PLACE, PROBES, REFUSED
from app.rest.asgi.cross_origin import CrossOrigin, is_preflight
from app.rest.asgi.protocol import OVERLOADED, WHOLE
from app.rest.asgi.rate_limit import RATE, UNLIMITED, Allowance, RateLimit
from app.rest.errors import ClientError, problem
from app.rest.logins import login_page, place_of
from app.rest.pages import wants_page
from app.rest.sessions import Sessions
from app.settings import Settings

log = structlog.get_logger(__name__)

BODY_SECONDS = 10
# Open without a key: health checks have none, and the documentation shows no data.
_OPEN = ("/health/", "/docs", "/schema/", "/login", "/logout")
_WITH_BODY = {"POST", "PUT", "PATCH"}
_SAFE = {"GET", "OPTIONS"}
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d*)?")


class Rejection(NamedTuple):
    """Without a `detail`, the response has the usual one of its status."""

    status: int
    detail: str | None = None
    headers: dict[str, str] | None = None


_OVERLOADED = Rejection(
    503,
    "there are too many connections; try again",
    {"Retry-After": "1", "Connection": "close"},
)
_UNKNOWN_HOST = Rejection(400, "this Host is not served here: see ALLOWED_HOSTS")
_NO_KEY = Rejection(
    401,
    "send the API key as `Authorization: Bearer ...` or `X-API-Key: ...`",
    {"WWW-Authenticate": "Bearer"},
)
_FOREIGN_ORIGIN = Rejection(403, "a page of another origin may not do this")
_UNKNOWN_CODING = Rejection(
    501, "send the body with a Content-Length, or with the transfer coding chunked alone"
)
_ENCODED = Rejection(
    415, "send the body without a Content-Encoding", {"Accept-Encoding": "identity"}
)
_NOT_JSON = Rejection(415)
_NO_FORM = Rejection(415, "send a form")
_FORMS = ("/login",)

Headers = dict[bytes, bytes]


class Access:
    """What the head of a request must have: a Host that is served, our origin, the API key if there
    is one, and the kind of body that we take."""

    def __init__(self, settings: Settings, rate_limit: RateLimit | None = None) -> None:
        self._names = {name.strip().lower() for name in settings.allowed_hosts.split(",")}
        self._suffixes = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._last_host = b""  # of those that are served: nearly all requests have the same
        key = settings.api_key
        self._sessions = Sessions(key.get_secret_value().encode()) if key else None
        self._cross_origin = CrossOrigin.of(settings)
        self._rate_limit = rate_limit
        self._addresses = ClientAddresses(settings.trusted_proxies)

    def rejection(self, method: str, path: str, headers: Headers) -> Rejection | None:
        if not (path.startswith(PROBES) or self.is_served(headers.get(b"host", b""))):
            return _UNKNOWN_HOST
        is_foreign = method not in _SAFE and _is_foreign(headers)
        if is_foreign and not self._may_call(headers):
            return _FOREIGN_ORIGIN
        if not (self.has_key(path, headers, not is_foreign) or self.is_preflight(method, headers)):
            return _NO_KEY
        return _rejected_body(path, headers) if method in _WITH_BODY else None

    def is_preflight(self, method: str, headers: Headers) -> bool:
        """Whether a page that may call the API asks first: see cross_origin.py."""
        return (
            self._cross_origin is not None
            and is_preflight(method, headers)
            and self._cross_origin.allows(headers[b"origin"])
        )

    def _may_call(self, headers: Headers) -> bool:
        origin = headers.get(b"origin")
        return origin is not None and bool(self._cross_origin and self._cross_origin.allows(origin))

    def is_served(self, host: bytes) -> bool:
        if host and host == self._last_host:
            return True
        found = _HOST.fullmatch(host.decode("latin-1").lower())
        if found is None or not (self._is_known(found[1]) or _is_address(found[1])):
            return False
        self._last_host = host
        return True

    def _is_known(self, name: str) -> bool:
        return "*" in self._names or name in self._names or name.endswith(self._suffixes)

    def has_key(self, path: str, headers: Headers, is_ours: bool = True) -> bool:
        """Or a session, which stands for it, but not for pages that are not ours."""
        return (
            self._sessions is None
            or path.startswith(_OPEN)
            or self._sends_key(self._sessions, headers)
            or (is_ours and self._sessions.is_open(headers.get(b"cookie", b"")))
        )

    def allowance(self, connection: Connection, headers: Headers) -> Allowance:
        """Counts the request, unless its client has to wait."""
        if self._rate_limit is None:
            return UNLIMITED
        return self._rate_limit.take(self.client(connection, headers))

    def client(self, connection: Connection, headers: Headers) -> str:
        """Whom a request counts for. A wrong key is no client, or each guess would be a new one."""
        is_key = self._sessions is not None and (
            self._sends_key(self._sessions, headers)
            or self._sessions.is_open(headers.get(b"cookie", b""))
        )
        return "API key" if is_key else self._addresses.of(connection, headers)

    def _sends_key(self, sessions: Sessions, headers: Headers) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        bearer = token if scheme.lower() == b"bearer" else b""
        return any(map(sessions.is_key, (bearer, headers.get(b"x-api-key", b""))))


class Gatekeeper:
    def __init__(
        self, app: ASGIApp, settings: Settings, rate_limit: RateLimit | None = None
    ) -> None:
        self._app = app
        self._access = Access(settings, rate_limit)
        self._told = Thinned(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # What has its place already was judged before it waited: see direct_protocol.py.
        if scope["type"] != ScopeType.HTTP or PLACE in scope["state"]:
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        rejection = self._rejection(scope, headers)
        if rejection is None and self._access.is_preflight(scope["method"], headers):
            return await _answer_preflight(send)
        if rejection is None:
            return await self._app(scope, _within_deadline(scope, receive), send)
        request: Request[Any, Any, Any] = Request(scope)
        response = _response(request, rejection)
        await response.to_asgi_response(None, request)(scope, receive, send)

    def _rejection(self, scope: HTTPScope, headers: Headers) -> Rejection | None:
        if OVERLOADED in scope["state"] and not scope["path"].startswith(PROBES):
            return _OVERLOADED
        if self._counts(scope, headers):
            wait, scope["state"][RATE] = self._access.allowance(scope["client"], headers)
            if wait:
                scope["state"][REFUSED] = True
                self._tell(self._access.client(scope["client"], headers))
                return Rejection(429, headers={"Retry-After": str(wait)})
        return self._access.rejection(scope["method"], scope["path"], headers)

    def _counts(self, scope: HTTPScope, headers: Headers) -> bool:
        return not (
            scope["path"].startswith(PROBES) or self._access.is_preflight(scope["method"], headers)
        )

    def _tell(self, client: str) -> None:
        """At most once a second."""
        if not self._told.leaves_out():
            left_out = self._told.left_out()
            log.warning("a client sends more than RATE_LIMIT", client=client, left_out=left_out)


async def _answer_preflight(send: Send) -> None:
    """The same for every path: one that does not exist is the 404 of the request that follows."""
    start = {"type": "http.response.start", "status": 204, "headers": [*CrossOrigin.preflight]}
    await send(start)  # type: ignore[arg-type]
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _response(request: Request[Any, Any, Any], rejection: Rejection) -> Response[Any]:
    """A browser without the key gets the form that asks for it."""
    if rejection is _NO_KEY and wants_page(request):
        response = login_page(request, place_of(request), rejection.status)
        response.headers.update(rejection.headers or {})
        return response
    return problem(str(request.scope["state"]["request_id"]), *rejection)


def _is_address(name: str) -> bool:
    """Balancers may ask replicas by address. A page that rebinds a name still sends that name, so
    addresses need no list."""
    try:
        return bool(ip_address(name.strip("[]")))
    except ValueError:
        return False


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser sends this for a page of another origin. A browser may do so without
    asking first: a form, or what has no body. Other clients send neither header.

    Litestar's CSRF middleware wants a token with every write, and so refuses all clients that are
    no browsers. Its allowed hosts are a list; ours let addresses and probes through."""
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in (b"same-origin", b"none")
    origin = headers.get(b"origin")
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host", b"")


def _rejected_body(path: str, headers: Headers) -> Rejection | None:
    coding = headers.get(b"transfer-encoding")
    if coding is None and headers.get(b"content-length", b"0") == b"0":
        return None
    if coding is not None and coding.strip().lower() != b"chunked":
        return _UNKNOWN_CODING
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        return _ENCODED
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if path in _FORMS:
        return None if media_type == b"application/x-www-form-urlencoded" else _NO_FORM
    return None if media_type == b"application/json" else _NOT_JSON


def _within_deadline(scope: HTTPScope, receive: Receive) -> Receive:
    """Without it, a client that sends its body byte by byte could hold a request for ever."""
    if scope["method"] not in _WITH_BODY or WHOLE in scope["state"]:
        return receive
    deadline = asyncio.get_running_loop().time() + BODY_SECONDS
    complete = False

    async def receive_in_time() -> HTTPReceiveMessage:
        nonlocal complete
        if complete:  # all that can come now is the end of the connection, at any time
            return await receive()  # type: ignore[return-value]
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise ClientError(status_code=408, detail="the body came too slowly") from None
        complete = message["type"] != "http.request" or not message["more_body"]
        return message  # type: ignore[return-value]

    return receive_in_time
