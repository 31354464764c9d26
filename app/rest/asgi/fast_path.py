"""GET of one user or product, answered by the protocol itself: an ASGI scope and the layers of the
application cost twice as much as the read.

What is unusual goes on to the application, which responds alike: a test compares the bytes, the
logs and the metrics."""

import asyncio
import re
from typing import Any, Protocol, TypeAlias

import zttp
from litestar import Request
from structlog.contextvars import bind_contextvars

from app.container import Container
from app.errors import Unavailable
from app.rest.asgi.client_address import Connection
from app.rest.asgi.context import CommonHeaders
from app.rest.asgi.direct import Answer, DirectRequest, headers_in
from app.rest.asgi.gatekeeper import Access
from app.rest.asgi.rate_limit import RateLimit
from app.rest.errors import TOLD, response_to
from app.rest.etags import etag, matches
from app.runtime import tracing
from app.schemas.types import ID_MAX
from app.services.products import PRODUCT
from app.services.users import USER

_USUAL = re.compile(rb"(/users/|/products/)([1-9]\d{0,15})", re.ASCII)

# A value on its way, which may turn out to be none. None: nobody was asked.
Coming: TypeAlias = "asyncio.Future[bytes | None] | None"


class Reads(Protocol):
    """Of one entity: see app/cache/reads.py."""

    def peek(self, identity: int) -> Coming: ...

    def is_hit(self, identity: int, value: bytes) -> bool: ...

    def past_redis(self, identity: int, peeked: Coming) -> Coming: ...

    async def resolve(self, identity: int, peeked: Coming, loading: Coming) -> bytes: ...


class FastRead(DirectRequest):
    """A GET whose value is on its way: `peeked`, which is None if Redis is not to be asked."""

    def __init__(
        self,
        request: zttp.Request,
        headers: dict[bytes, bytes],
        route: str,
        common: CommonHeaders,
        cache: Reads,
        identity: int,
    ) -> None:
        super().__init__(request, headers, route, common)
        self.told: dict[str, str] = {}
        self._cache = cache
        self._identity = identity
        self._known = _known(request) if b"if-none-match" in headers else None
        self.peeked = cache.peek(identity)
        self.loading: Coming = None

    def hit(self) -> Answer | None:
        """When the value is here."""
        assert self.peeked
        if self.peeked.cancelled() or self.peeked.exception():
            return None
        value = self.peeked.result()
        return self._found(value) if value and self._cache.is_hit(self._identity, value) else None

    def load(self) -> Coming:
        """The row past Redis. None if that is to be asked for a lease: see `resolved`."""
        with tracing.active(self.span):
            self.loading = self._cache.past_redis(self._identity, self.peeked)
        return self.loading

    def loaded(self) -> Answer | None:
        """When the row is here. None if there is none: see `resolved`."""
        assert self.loading
        if self.loading.cancelled() or self.loading.exception():
            return None
        row = self.loading.result()
        return self._found(row) if row else None

    async def resolved(self) -> Answer:
        """What `hit` and `loaded` are not."""
        bind_contextvars(request_id=self.request_id)
        try:
            with tracing.active(self.span):
                row = await self._cache.resolve(self._identity, self.peeked, self.loading)
                return self._found(row)
        except asyncio.CancelledError:
            return self._failed(Unavailable("the request took too long"))
        except Exception as error:
            return self._failed(error)

    def _found(self, row: bytes) -> Answer:
        tag = etag(row)
        if self._known is not None and matches(tag, self._known.decode("latin-1")):
            return Answer(304, [(b"etag", tag.encode())], b"")
        length = (b"content-length", b"%d" % len(row))
        headers = [(b"etag", tag.encode()), (b"content-type", b"application/json"), length]
        return Answer(200, headers, row)

    def _failed(self, error: Exception) -> Answer:
        state = {"request_id": self.request_id, TOLD: self.told}
        scope: Any = {"type": "http", "state": state}
        request: Request[Any, Any, Any] = Request(scope)
        response = response_to(request, error).to_asgi_response(None, request)
        return Answer(response.status_code, response.encode_headers(), response.body)


def _known(request: zttp.Request) -> bytes:
    """The first of several such headers, as in Litestar."""
    return next(value for name, value in headers_in(request) if name == b"if-none-match")


class FastPath:
    """Which requests take it."""

    def __init__(self, container: Container, rate_limit: RateLimit | None = None) -> None:
        self._access = Access(container.settings, rate_limit)
        self._common = CommonHeaders(container.settings)
        self._routes: dict[bytes, tuple[str, Reads]] = {
            b"/users/": ("/users/{user_id}", container.caches[USER]),
            b"/products/": ("/products/{product_id}", container.caches[PRODUCT]),
        }
        # Then a hit has a log line too, with the request id of the application's context.
        self._are_explained = container.settings.log_level == "DEBUG"

    def begin(self, request: zttp.Request, client: Connection) -> FastRead | None:
        """The request with its value on the way. None for the application's."""
        found = None if self._are_explained else _USUAL.fullmatch(request.target)
        if found is None or request.method != b"GET" or not request.end_stream:
            return None
        route, cache = self._routes[found[1]]
        identity, headers = int(found[2]), dict(headers_in(request))
        if identity > ID_MAX or self._access.rejection("GET", route, headers):
            return None
        wait, rate = self._access.allowance(client, headers)
        if wait:
            return None
        read = FastRead(request, headers, route, self._common, cache, identity)
        read.rate = rate
        return read
