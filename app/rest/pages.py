"""Pages and pictures that the service makes itself: app/pages has the templates. They need nothing
from elsewhere."""

import json
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import MediaType, Request, Response
from litestar.types import ExceptionHandlersMap

from app.rest.errors import EXCEPTION_HANDLERS, response_to
from app.rest.etags import etag, matches
from app.rest.policies import policy
from app.rest.responses import preferred, to_json
from app.rest.sessions import COOKIE
from app.schemas.types import View
from app.settings import ROOT

V = TypeVar("V", bound=View)

SVG = "image/svg+xml"
_MEDIA_TYPES = {"json": "application/json", "page": "text/html"}
_templates = Environment(
    loader=FileSystemLoader(ROOT / "app" / "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def page_or_json(
    request: Request[Any, Any, Any], template: str, view: V, **values: Any
) -> Response[V]:
    """A page for browsers, which ask for one; JSON for every other client. `values` are for the
    page, beside the fields of the view."""
    if wants_page(request):
        return page(request, template, **dict(view), **values)
    body: Any = to_json(view)
    return Response(body, media_type=MediaType.JSON, headers={"Vary": "Accept"})


def polled_page_or_json(
    request: Request[Any, Any, Any],
    template: str,
    view: V,
    version: bytes,
    if_none_match: str | None,
) -> Response[V]:
    """As `page_or_json`, for clients that ask again and again: 304 for one that has this version.
    Its tag is weak: what differs between two bodies of a version, such as their time, is worth no
    transfer."""
    tag = etag(version + (b"page" if wants_page(request) else b""))
    if if_none_match is not None and matches(tag, if_none_match):
        response: Response[Any] = Response(None, status_code=304, headers={"Vary": "Accept"})
    else:
        response = page_or_json(request, template, view, allowed=policy("'self'"))
    response.headers["ETag"] = f"W/{tag}"
    return response


def wants_page(request: Request[Any, Any, Any]) -> bool:
    return preferred(request, _MEDIA_TYPES) == "page"


def page(
    request: Request[Any, Any, Any], template: str, allowed: str = policy(), **values: Any
) -> Response[Any]:
    """`allowed` is its policy. The template has `up`, which leads to the API's root, and `here`,
    which leads back. Links are relative: a proxy may serve the API below a path that we do not
    know."""
    here = request.scope["path"].strip("/")
    levels = here.count("/") + (here != "" and request.scope["raw_path"].endswith(b"/"))
    values |= {"up": "../" * levels or "./", "here": here, "has_session": COOKIE in request.cookies}
    return _rendered(template, MediaType.HTML, allowed, **values)


def _error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    response = response_to(request, error)
    if not wants_page(request):
        return response
    shown = page(request, "problem.html", **json.loads(response.content))
    shown.status_code = response.status_code
    shown.headers.update(response.headers)
    return shown


# For handlers that have a page for browsers: what goes wrong is told there too.
PAGE_ERRORS: ExceptionHandlersMap = dict.fromkeys(EXCEPTION_HANDLERS, _error)


def picture(template: str, **values: Any) -> Response[Any]:
    """Somebody may open it by itself: then it is a page too."""
    return _rendered(template, SVG, policy(), **values)


def _rendered(template: str, media_type: str, allowed: str, **values: Any) -> Response[Any]:
    body = _templates.get_template(template).render(values)
    headers = {"Content-Security-Policy": allowed, "Vary": "Accept"}
    return Response(body.encode(), media_type=media_type, headers=headers)
