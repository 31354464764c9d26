"""Swagger UI at /docs, from files of our own: the page works without the Internet."""

import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.static_files import create_static_files_router

from app.rest.openapi.document import document_of
from app.settings import ROOT

_ASSETS = "/docs/assets"
_SWAGGER = SwaggerRenderPlugin(
    js_url=f"{_ASSETS}/swagger-ui-bundle.js",
    css_url=f"{_ASSETS}/swagger-ui.css",
    standalone_preset_js_url=f"{_ASSETS}/swagger-ui-standalone-preset.js",
    favicon=f'<link rel="icon" href="{_ASSETS}/favicon-32x32.png">',
)
_INLINE_SCRIPT = re.compile(rb"<script type='text/javascript'>(.*?)</script>", re.DOTALL)


@get("/docs", media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=False)
def swagger_ui(request: Request[Any, Any, Any]) -> Response[bytes]:
    page = _SWAGGER.render(request, document_of(request.app))
    return Response(page, headers={"Content-Security-Policy": _policy_for(page)})


def _policy_for(page: bytes) -> str:
    """Nothing from other origins, and no script but our files and the page's one inline script."""
    script = _INLINE_SCRIPT.findall(page)[0]
    digest = b64encode(sha256(script).digest()).decode()
    return (
        "default-src 'none'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; style-src 'self' 'unsafe-inline'; "
        f"script-src 'self' 'sha256-{digest}'"
    )


assets = create_static_files_router(
    path=_ASSETS,
    directories=[ROOT / "app" / "assets" / "swagger-ui"],
    include_in_schema=False,
)
