"""CORS: pages of which other origins may call the API. Litestar's middleware would stand behind the
refusals and beside the fast path, and a browser hides an answer that lacks these headers."""

from collections.abc import Mapping

from app.settings import Settings

Headers = list[tuple[bytes, bytes]]

# What a page may read, beside the body.
_EXPOSED = "ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_TAKEN = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-API-Key, "
    "X-Request-ID, traceparent, tracestate"
)
_REMEMBERED_SECONDS = 600

_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", _METHODS.encode()),
    (b"access-control-allow-headers", _TAKEN.encode()),
    (b"access-control-max-age", b"%d" % _REMEMBERED_SECONDS),
]


class CrossOrigin:
    """Credentials, which are cookies and the like, are never allowed: the API key is a header that
    the page itself sets."""

    preflight = _PREFLIGHT

    def __init__(self, origins: str) -> None:
        """`origins` is the setting."""
        self._any = origins == "*"
        self._origins = frozenset(origin.strip().encode() for origin in origins.split(","))
        self._common = [(b"access-control-expose-headers", _EXPOSED.encode())]
        if not self._any:
            self._common.append((b"vary", b"Origin"))

    @classmethod
    def of(cls, settings: Settings) -> "CrossOrigin | None":
        return cls(settings.cors_origins) if settings.cors_origins else None

    def allows(self, origin: bytes) -> bool:
        return self._any or origin in self._origins

    def headers(self, origin: bytes | None) -> Headers:
        """What every response has."""
        if self._any:
            return [*self._common, (b"access-control-allow-origin", b"*")]
        if origin in self._origins:
            return [*self._common, (b"access-control-allow-origin", origin)]
        return self._common


def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """A browser asks, without the API key, whether it may send the request itself."""
    return (
        method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers
    )
