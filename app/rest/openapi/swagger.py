"""The OpenAPI document and Swagger UI, whose files are ours: it shows with the network cut off."""

import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

from litestar import MediaType, Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag
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
# Only where API_KEY is set: see document.py.
_BEARER = SecurityScheme(type="http", scheme="bearer")
_KEY = SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header")
_TAGS = {
    "users": "People: they place orders.",
    "addresses": "Where people's orders go.",
    "products": "What there is to order, with its price and stock.",
    "orders": "All or nothing: an order takes its products from the stock.",
    "reports": "Every day's orders.",
    "messages": "What became of the messages in the queues.",
    "health": "Whether the service is well.",
}


class _Document(JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], _: dict[str, Any]) -> bytes:
        return self.render_json(request, document_of(request.app))


def _as_problem(response: Response[Any]) -> Response[Any]:
    """Litestar has an HTML page for what it does not find here."""
    if response.status_code == 404:
        raise NotFoundException
    return response


@get("/docs", media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=False)
def swagger_ui(request: Request[Any, Any, Any]) -> Response[bytes]:
    page = _SWAGGER.render(request, document_of(request.app))
    return Response(page, headers={"Content-Security-Policy": _policy_for(page)})


def _policy_for(page: bytes) -> str:
    """Nothing from elsewhere, and no script but our files and the one that stands in the page."""
    script = _INLINE_SCRIPT.findall(page)[0]
    digest = b64encode(sha256(script).digest()).decode()
    return (
        "default-src 'none'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; style-src 'self' 'unsafe-inline'; "
        f"script-src 'self' 'sha256-{digest}'"
    )


def _operation_id(handler: HTTPRouteHandler, *_: Any) -> str:
    return f"{next(iter(handler.resolve_tags()))}_{handler.handler_name}"


OPENAPI = OpenAPIConfig(
    title="Order service",
    version="1.0.0",
    description="People, their addresses, products with stock, orders, and every day's report.",
    components=Components(security_schemes={"bearer": _BEARER, "key": _KEY}),
    security=[{"bearer": []}, {"key": []}],
    tags=[Tag(name, description) for name, description in _TAGS.items()],
    operation_id_creator=_operation_id,
    openapi_router=Router(
        "/schema", route_handlers=[], include_in_schema=False, after_request=_as_problem
    ),
    render_plugins=[_Document(path="/openapi.json", media_type=MediaType.JSON)],
)
assets = create_static_files_router(
    path=_ASSETS,
    directories=[ROOT / "app" / "assets" / "swagger-ui"],
    include_in_schema=False,
)
