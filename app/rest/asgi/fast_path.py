"""GET of one user or one product without Litestar, whose way from the request to the handler and
back costs more than all the rest of a cached read. Whatever is unusual goes on to Litestar, whose
handlers give the same answers; a test compares them."""

import re

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from app.container import Container
from app.rest.errors import send_error
from app.rest.etags import etag, matches
from app.schemas.types import INT4_MAX
from app.services.products import PRODUCT
from app.services.users import USER

_ONE = re.compile(r"(/users/|/products/)([1-9]\d{0,9})", re.ASCII)


class FastPath:
    def __init__(self, app: ASGIApp, container: Container) -> None:
        self._app = app
        self._reads = {
            "/users/": ("/users/{user_id}", container.caches[USER]),
            "/products/": ("/products/{product_id}", container.caches[PRODUCT]),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == "GET":
            found = None if scope["query_string"] else _ONE.fullmatch(scope["path"])
            if found and (identity := int(found[2])) <= INT4_MAX:
                return await self._answer(found[1], identity, scope, receive, send)
        await self._app(scope, receive, send)

    async def _answer(
        self, kind: str, identity: int, scope: HTTPScope, receive: Receive, send: Send
    ) -> None:
        scope["path_template"], reads = self._reads[kind]
        try:
            body = await reads.read(identity)
        except Exception as error:
            return await send_error(error, scope, receive, send)
        tag = etag(body)
        headers = [(b"etag", tag.encode())]
        status = 200
        if (known := _known(scope)) is not None and matches(tag, known):
            status, body = 304, b""
        else:
            headers.append((b"content-type", b"application/json"))
            headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _known(scope: HTTPScope) -> str | None:
    """The first If-None-Match, as Litestar takes it."""
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            return value.decode("latin-1")
    return None
