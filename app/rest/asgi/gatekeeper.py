"""Rejects requests that the application must not see: an unknown Host, no API key, a body that is
not JSON or comes too slowly."""

import asyncio
import hmac

from litestar import Request
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Receive, Scope, Send

from app.rest.errors import ClientError, problem
from app.settings import Settings

BODY_SECONDS = 10
# Open without a key: health checks have none, and the documentation shows no data.
_OPEN = ("/health/", "/docs", "/schema/")
_WITH_BODY = {"POST", "PUT", "PATCH"}


class Gatekeeper:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = {host.strip().lower() for host in settings.allowed_hosts.split(",")}
        self._key = settings.api_key.get_secret_value().encode() if settings.api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            return await self._app(scope, receive, send)
        rejection = self._rejection(scope, dict(scope["headers"]))
        if rejection is None:
            return await self._app(scope, _within_deadline(scope, receive), send)
        status, detail = rejection
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        response = problem(str(scope["state"]["request_id"]), status, detail, headers)
        await response.to_asgi_response(None, Request(scope))(scope, receive, send)

    def _rejection(
        self, scope: HTTPScope, headers: dict[bytes, bytes]
    ) -> tuple[int, str | None] | None:
        """A status and a detail; without a detail, the usual one of the status."""
        if not self._is_served(headers.get(b"host", b"").decode("latin-1").lower()):
            return 400, "this Host is not served here: see ALLOWED_HOSTS"
        if not self._has_key(scope["path"], headers):
            return 401, "send the API key as `Authorization: Bearer ...` or `X-API-Key: ...`"
        if _has_foreign_body(scope["method"], headers):
            return 415, None
        return None

    def _is_served(self, host: str) -> bool:
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return "*" in self._hosts or name in self._hosts

    def _has_key(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if self._key is None or path.startswith(_OPEN):
            return True
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        bearer = token if scheme.lower() == b"bearer" else b""
        given = (bearer, headers.get(b"x-api-key", b""))
        return any(hmac.compare_digest(key.strip(), self._key) for key in given)


def _has_foreign_body(method: str, headers: dict[bytes, bytes]) -> bool:
    if method not in _WITH_BODY:
        return False
    if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        return False
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return media_type != b"application/json"


def _within_deadline(scope: HTTPScope, receive: Receive) -> Receive:
    """Without it, a client that sends its body byte by byte could hold a request for ever."""
    if scope["method"] not in _WITH_BODY:
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
