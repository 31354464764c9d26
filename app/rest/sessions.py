"""A browser's session: a cookie in place of the API key, which a browser cannot send by itself.

The cookie is signed with the key, so a new key ends all sessions, and the server keeps none: who
has a copy of a cookie can use it until its time is over."""

import hmac
import re
import time

from litestar.datastructures import Cookie

COOKIE = "order_service_session"
SECONDS = 12 * 3600
_COOKIE = re.compile(rb"(?:^|; ?)order_service_session=(\d{1,12})\.([0-9a-f]{64})(?=;|$)", re.ASCII)


class Sessions:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def is_key(self, given: bytes) -> bool:
        return hmac.compare_digest(given.strip(), self._key)

    def begin(self, now: float) -> str:
        end = b"%d" % (now + SECONDS)
        return f"{end.decode()}.{self._signature(end).decode()}"

    def is_open(self, cookies: bytes) -> bool:
        """Whether this Cookie header has one. There may be several of the same name: services on
        other ports have theirs, say."""
        return any(
            int(end) > time.time() and hmac.compare_digest(signature, self._signature(end))
            for end, signature in _COOKIE.findall(cookies)
        )

    def _signature(self, end: bytes) -> bytes:
        return hmac.digest(self._key, b"session " + end, "sha256").hex().encode()


def cookie(value: str, seconds: int, origin: str | None) -> Cookie:
    """`origin` is that of the page. It says what the browser speaks, whatever the proxies between
    say: TLS, if it is not known to be plain HTTP.

    Without a path, a browser takes the cookie for all that is beside /login: behind a proxy too,
    below a path that we may not know."""
    is_plain = origin is not None and origin.startswith("http://")
    return Cookie(
        COOKIE,
        path=None,  # type: ignore[arg-type]
        value=value,
        max_age=seconds,
        secure=not is_plain,
        httponly=True,
        samesite="strict",
    )
