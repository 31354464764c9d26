"""The OpenAPI document and Swagger UI, whose files are ours: it shows with the network cut off."""

from functools import cache
from typing import Any

from litestar import Litestar, MediaType, Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.static_files import create_static_files_router
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from app.schemas.types import Body, View
from app.settings import ROOT

_ASSETS = "/docs/assets"
_SWAGGER = SwaggerRenderPlugin(
    js_url=f"{_ASSETS}/swagger-ui-bundle.js",
    css_url=f"{_ASSETS}/swagger-ui.css",
    standalone_preset_js_url=f"{_ASSETS}/swagger-ui-standalone-preset.js",
    favicon=f'<link rel="icon" href="{_ASSETS}/favicon-32x32.png">',
)


class _Schemas(GenerateJsonSchema):
    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """A field that may be left out has no default of null that it would not accept."""
        result = super().default_schema(schema)
        return {k: v for k, v in result.items() if k != "default" or v is not None}


def _with_pydantic_schemas(document: dict[str, Any]) -> dict[str, Any]:
    """Litestar reads the models' annotations; pydantic knows what it accepts and writes."""
    bodies = [(model, "validation") for model in _models_below(Body)]
    views = [(model, "serialization") for model in _models_below(View)]
    _, schemas = models_json_schema(
        [*bodies, *views],  # type: ignore[list-item]
        ref_template="#/components/schemas/{model}",
        schema_generator=_Schemas,
    )
    known = document["components"]["schemas"]
    known.update({name: schema for name, schema in schemas["$defs"].items() if name in known})
    return document


def _models_below(base: type[BaseModel]) -> list[type[BaseModel]]:
    return [m for sub in base.__subclasses__() for m in (sub, *_models_below(sub))]


@cache
def document_of(app: Litestar) -> dict[str, Any]:
    return _with_pydantic_schemas(app.openapi_schema.to_schema())


class _Document(JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], _: dict[str, Any]) -> bytes:
        return self.render_json(request, document_of(request.app))


def _as_problem(response: Response[Any]) -> Response[Any]:
    """Litestar has an HTML page for what it does not find here."""
    if response.status_code == 404:
        raise NotFoundException
    return response


@get("/docs", media_type=MediaType.HTML, include_in_schema=False, sync_to_thread=False)
def swagger_ui(request: Request[Any, Any, Any]) -> bytes:
    return _SWAGGER.render(request, document_of(request.app))


OPENAPI = OpenAPIConfig(
    title="Order service",
    version="1.0.0",
    description="People, their addresses, products with stock, orders, and every day's report.",
    openapi_router=Router(
        "/schema", route_handlers=[], include_in_schema=False, after_request=_as_problem
    ),
    render_plugins=[_Document(path="/openapi.json")],
)
assets = create_static_files_router(
    path=_ASSETS,
    directories=[ROOT / "app" / "assets" / "swagger-ui"],
    include_in_schema=False,
)
