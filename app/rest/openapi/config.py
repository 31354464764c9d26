"""/schema/openapi.json: what is in the document's head, and how it is served."""

from collections.abc import Sequence
from typing import Any

from litestar import Controller, MediaType, Request, Response, Router
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Contact, License, SecurityScheme, Tag

from app.rest.openapi.document import document_of
from app.version import VERSION

# Shown only where API_KEY is set: see document.py.
_BEARER = SecurityScheme(type="http", scheme="bearer")
_KEY = SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header")


def openapi_config(controllers: Sequence[type[Controller]]) -> OpenAPIConfig:
    """A controller has one tag, which its docstring describes; those of its handlers describe the
    operations."""
    return OpenAPIConfig(
        title="Order service",
        version=VERSION,
        description="People, their addresses, products with stock, orders, and every day's report.",
        contact=Contact(name="The maintainers of the order service"),
        # There is no LICENSE: nobody is given any right. A test looks for one.
        license=License("All rights reserved", identifier="LicenseRef-All-rights-reserved"),
        components=Components(security_schemes={"bearer": _BEARER, "key": _KEY}),
        security=[{"bearer": []}, {"key": []}],
        tags=[_tag(controller) for controller in controllers],
        use_handler_docstrings=True,
        operation_id_creator=_operation_id,
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, after_request=_as_problem
        ),
        render_plugins=[_Document(path="/openapi.json", media_type=MediaType.JSON)],
    )


def _tag(controller: type[Controller]) -> Tag:
    (name,) = vars(controller)["tags"]
    return Tag(name, controller.__doc__)


class _Document(JsonRenderPlugin):
    def render(self, request: Request[Any, Any, Any], _: dict[str, Any]) -> bytes:
        return self.render_json(request, document_of(request.app))


def _operation_id(handler: HTTPRouteHandler, *_: Any) -> str:
    return f"{next(iter(handler.resolve_tags()))}_{handler.handler_name}"


def _as_problem(response: Response[Any]) -> Response[Any]:
    """For an unknown path below /schema Litestar sends an HTML page of its own."""
    if response.status_code == 404:
        raise NotFoundException
    return response
