"""GET of one cached user or product, answered by the protocol itself: an ASGI scope, a task and the
layers of the application cost twice as much as the read.

What is unusual or not in the cache goes on to the application, which responds alike: a test
compares the bytes, the logs and the metrics."""

import asyncio
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import zttp

from app.container import Container
from app.rest.asgi.context import headers_of, record, request_id_of
from app.rest.asgi.gatekeeper import Access
from app.rest.asgi.protocol import OVERLOADED, Protocol
from app.rest.etags import etag
from app.schemas.types import ID_MAX
from app.services.products import PRODUCT
from app.services.users import USER

_USUAL = re.compile(rb"(/users/|/products/)([1-9]\d{0,15})", re.ASCII)


class _Message:
    def set(self) -> None:
        """Nobody waits for the body of such a request."""


class HotRead:
    """A request whose value is on its way. To uvicorn it is the cycle of request and response."""

    more_body = False
    message_event = _Message()

    def __init__(
        self,
        request: zttp.Request,
        request_id: str,
        route: str,
        value: "asyncio.Future[bytes | None]",
        is_hit: Callable[[bytes], bool],
    ) -> None:
        self.request = request
        self.value = value
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self._began = time.perf_counter()
        self._request_id = request_id
        self._route = route
        self._is_hit = is_hit

    def row(self) -> bytes | None:
        """None unless it is a hit."""
        if self.value.cancelled() or self.value.exception():
            return None
        value = self.value.result()
        return value if value is not None and self._is_hit(value) else None

    def headers(self, row: bytes) -> list[tuple[bytes, bytes]]:
        return [
            (b"etag", etag(row).encode()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(row)),
            *headers_of(self._request_id, self._route),
        ]

    def record(self) -> None:
        record(self._request_id, "GET", self._route, 200, time.perf_counter() - self._began)


class HotReads:
    """Which requests are hot reads."""

    def __init__(self, container: Container) -> None:
        self._access = Access(container.settings)
        self._routes = {
            b"/users/": ("/users/{user_id}", container.caches[USER]),
            b"/products/": ("/products/{product_id}", container.caches[PRODUCT]),
        }
        # Then a hit has a log line too, with the request id of the application's context.
        self._are_explained = container.settings.log_level == "DEBUG"

    def begin(self, request: zttp.Request) -> HotRead | None:
        """The request with its value on the way. None for the application's."""
        found = None if self._are_explained else _USUAL.fullmatch(request.target)
        if found is None or request.method != b"GET" or not request.end_stream:
            return None
        route, cache = self._routes[found[1]]
        headers = dict(cast(zttp.HeaderBlock, request.headers).to_list(lowercase_names=True))
        if (
            b"if-none-match" in headers
            or (identity := int(found[2])) > ID_MAX
            or not self._access.is_served(headers.get(b"host", b""))
            or not self._access.has_key(route, headers)
            or (value := cache.peek(identity)) is None
        ):
            return None
        is_hit = partial(cache.is_hit, identity)
        return HotRead(request, request_id_of(headers), route, value, is_hit)


class HotProtocol(Protocol):
    def __init__(self, reads: HotReads, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reads = reads

    def handle_events(self, event: zttp.Event) -> None:
        if isinstance(event, zttp.Request) and (read := self._begin(event)):
            self._unset_keepalive_if_required()
            self.cycle = read  # type: ignore[assignment]
            read.value.add_done_callback(lambda _: self._end(read))
        else:
            super().handle_events(event)

    def _begin(self, request: zttp.Request) -> HotRead | None:
        # Only the application waits for a client that does not read.
        if self.flow.write_paused or OVERLOADED in self.app_state:
            return None
        return self._reads.begin(request)

    def _end(self, read: HotRead) -> None:
        row = read.row()
        if read.disconnected:
            return
        if row is None:
            super().handle_events(read.request)
            self.cycle.keep_alive = read.keep_alive  # false if the server has begun to stop
            return
        self.conn.send_response(200, self.server_state.default_headers + read.headers(row))
        self.conn.send_data(row)
        self.conn.end_message()
        self.transport.write(self.conn.data_to_send())
        read.response_complete = True
        read.record()
        if self.conn.should_close() or not read.keep_alive:
            self.transport.close()
        self.on_response_complete()
