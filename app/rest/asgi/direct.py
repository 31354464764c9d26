"""Requests that the protocol answers itself: a scope, a task and the layers of the application cost
more than the answer."""

import time
from collections.abc import Mapping
from typing import NamedTuple, cast

import zttp

from app.rest.asgi.context import NOTHING, CommonHeaders, record, request_id_of
from app.runtime import tracing

Headers = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    status: int
    headers: Headers
    body: bytes


class _Message:
    def set(self) -> None:
        """Nobody waits for the body of such a request."""


def headers_in(request: zttp.Request) -> Headers:
    return cast(zttp.HeaderBlock, request.headers).to_list(lowercase_names=True)


class DirectRequest:
    """A request without its answer. To uvicorn it is the cycle of request and response."""

    more_body = False
    message_event = _Message()
    told: Mapping[str, str] = NOTHING

    def __init__(
        self,
        request: zttp.Request,
        headers: dict[bytes, bytes],
        route: str,
        common: CommonHeaders,
    ) -> None:
        self.request = request
        self.request_id = request_id_of(headers)
        self.began = time.perf_counter()
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = True
        self._route = route
        self._origin = headers.get(b"origin")
        self._common = common
        self.rate: Headers = []
        self.span = tracing.request(headers, self.began)

    def headers(self) -> Headers:
        """What any answer to it has."""
        return self._common.of(self.request_id, self._route, self._origin) + self.rate

    def record(self, status: int, is_dull: bool = False) -> None:
        method = self.request.method.decode()
        seconds = time.perf_counter() - self.began
        path = self.request.path.decode("latin-1")
        record(
            self.request_id,
            method,
            self._route,
            path,
            status,
            seconds,
            is_dull=is_dull,
            told=self.told,
            span=self.span,
        )
