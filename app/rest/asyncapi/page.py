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
from app.rest.policies import script_policy
from app.settings import ROOT

_DOCUMENT = "/schema/asyncapi.json"
_ASSETS = "/docs/queues/assets"
# AsyncAPI's component has a light theme only: the dark one is its negative, with the hues kept.
_STYLE = """
body { margin: 0; font-family: system-ui, sans-serif; line-height: 1.5 }
#asyncapi { color-scheme: light; color: #000; background: #fff; min-height: 100vh }
@media (prefers-color-scheme: dark) {
  html { background: #121212 }
  #asyncapi { filter: invert(0.93) hue-rotate(180deg) }
  #asyncapi .bg-gray-800 { filter: invert(1) hue-rotate(180deg) }
}
"""
_SCRIPT = """
fetch(document.body.dataset.document).then(response => response.json()).then(schema =>
  AsyncApiStandalone.render({schema, config: {expand: {messageExamples: true}}},
                            document.getElementById("asyncapi")))
"""
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Order service: queues</title>
<link rel="icon" href="{up}docs/assets/favicon-32x32.png">
<link rel="stylesheet" href="{up}docs/queues/assets/default.min.css">
<style>{style}</style>
</head>
<body data-document="{up}schema/asyncapi.json">
<main id="asyncapi"></main>
<script src="{up}docs/queues/assets/index.js"></script>
<script>{script}</script>
</body>
</html>
"""


def _page(up: str) -> bytes:
    """Its links are relative: a proxy may serve the API below a path that we do not know."""
    return _PAGE.format(up=up, style=_STYLE, script=_SCRIPT).encode()


# By whether the path ends in a slash.
_PAGES = {False: _page("../"), True: _page("../../")}
# The component compiles JSON schemas to JavaScript.
_POLICY = script_policy(_SCRIPT.encode(), "'unsafe-eval'")


@get("/docs/queues", media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=False)
def queues_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    page = _PAGES[request.scope["raw_path"].endswith(b"/")]
    return Response(page, headers={"Content-Security-Policy": _POLICY})


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
