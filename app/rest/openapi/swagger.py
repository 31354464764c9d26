"""Swagger UI at /docs, from files of our own: the page works without the Internet."""

import re
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.static_files import create_static_files_router

from app.rest.openapi.document import document_of
from app.rest.policies import inline, policy
from app.settings import ROOT

_ASSETS = "/docs/assets"


def _page(directory: str) -> SwaggerRenderPlugin:
    """Its links are relative: a proxy may serve the API below a path that we do not know."""
    files = f"{directory}assets"
    return SwaggerRenderPlugin(
        js_url=f"{files}/swagger-ui-bundle.js",
        css_url=f"{files}/swagger-ui.css",
        standalone_preset_js_url=f"{files}/swagger-ui-standalone-preset.js",
        favicon=f'<link rel="icon" href="{files}/favicon-32x32.png">',
    )


# By whether the path ends in a slash: the page, and the API's root as seen from it.
_PAGES = {False: (_page("docs/"), "."), True: (_page(""), "..")}
_INLINE_SCRIPT = re.compile(rb"<script type='text/javascript'>(.*?)</script>", re.DOTALL)


@get("/docs", media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=False)
def swagger_ui(request: Request[Any, Any, Any]) -> Response[bytes]:
    swagger, root = _PAGES[request.scope["raw_path"].endswith(b"/")]
    document = document_of(request.app)
    # Without the license, which Swagger UI would turn into a link to spdx.org.
    info = {name: value for name, value in document["info"].items() if name != "license"}
    page = swagger.render(request, {**document, "info": info, "servers": [{"url": root}]})
    page = page.replace(b"<html>", b'<html lang="en">', 1)
    scripts = policy("'self'", inline(_INLINE_SCRIPT.findall(page)[0]))
    return Response(page, headers={"Content-Security-Policy": scripts})


assets = create_static_files_router(
    path=_ASSETS,
    directories=[ROOT / "app" / "assets" / name for name in ("swagger-ui", "pages")],
    include_in_schema=False,
)
