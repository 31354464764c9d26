"""The queues at /docs/queues, from files of our own: the page works without the Internet."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.static_files import create_static_files_router

from app.queues import Queue
from app.rest.asyncapi.document import Consumed, document_of
from app.rest.pages import page
from app.rest.policies import policy
from app.settings import ROOT

_DOCUMENT = "/schema/asyncapi.json"
_ASSETS = "/docs/queues/assets"
# The component compiles JSON schemas to JavaScript.
_POLICY = policy("'self'", "'unsafe-eval'")


@get("/docs/queues", media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=False)
def queues_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    return page(request, "queues.html", _POLICY)


def queues_document(consumed: Mapping[Queue, Consumed]) -> HTTPRouteHandler:
    @cache
    def document() -> bytes:
        return msgspec.json.encode(document_of(consumed))

    # In a thread: the first time it takes half a second.
    @get(_DOCUMENT, media_type=MediaType.JSON, include_in_schema=False, sync_to_thread=True)
    def read() -> bytes:
        return document()

    return read


queues_assets = create_static_files_router(
    path=_ASSETS, directories=[ROOT / "app" / "assets" / "asyncapi"], include_in_schema=False
)
