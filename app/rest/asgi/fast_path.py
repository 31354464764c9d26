"""GET of one user or product without Litestar, whose routing and injection cost more than all the
rest of a cached read. Unusual requests go on to Litestar. Its handlers respond alike: a test
compares the bytes, the headers, the logs and the metrics."""

import re
from collections.abc import Awaitable, Callable

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from app.container import Container
from app.rest.errors import send_error
from app.rest.etags import etag, matches
from app.schemas.types import ID_MAX
from app.services.products import PRODUCT
from app.services.users import USER

Read = Callable[[int], Awaitable[bytes]]
_USUAL = re.compile(r"(/users/|/products/)([1-9]\d{0,15})", re.ASCII)


class FastPath:
    def __init__(self, app: ASGIApp, container: Container) -> None:
        self._app = app
        self._reads: dict[str, tuple[str, Read]] = {
            "/users/": ("/users/{user_id}", container.caches[USER].read),
            "/products/": ("/products/{product_id}", container.caches[PRODUCT].read),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == "GET":
            found = None if scope["query_string"] else _USUAL.fullmatch(scope["path"])
            if found and (identity := int(found[2])) <= ID_MAX:
                return await self._respond(found[1], identity, scope, receive, send)
        await self._app(scope, receive, send)

    async def _respond(
        self, prefix: str, identity: int, scope: HTTPScope, receive: Receive, send: Send
    ) -> None:
        scope["path_template"], read = self._reads[prefix]
        try:
            body = await read(identity)
        except Exception as error:
            return await send_error(error, scope, receive, send)
        tag = etag(body)
        headers = [(b"etag", tag.encode())]
        status = 200
        if (known := _if_none_match(scope)) is not None and matches(tag, known):
            status, body = 304, b""
        else:
            headers.append((b"content-type", b"application/json"))
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _if_none_match(scope: HTTPScope) -> str | None:
    """The first of several such headers, as in Litestar."""
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            return value.decode("latin-1")
    return None
