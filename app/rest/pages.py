"""Pages and pictures that the service makes itself: app/pages has the templates. They show all
without a script, and need nothing from elsewhere."""

from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import MediaType, Request, Response

from app.rest.etags import etag, matches
from app.rest.responses import preferred, to_json
from app.schemas.types import View
from app.settings import ROOT

V = TypeVar("V", bound=View)

SVG = "image/svg+xml"
_MEDIA_TYPES = {"json": "application/json", "page": "text/html"}
# A picture that somebody opens by itself is a page too.
_POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_templates = Environment(
    loader=FileSystemLoader(ROOT / "app" / "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def page_or_json(request: Request[Any, Any, Any], template: str, view: V) -> Response[V]:
    """A page for browsers, which ask for one; JSON for every other client."""
    if preferred(request, _MEDIA_TYPES) == "page":
        return page(request, template, **dict(view))
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
    media_type = preferred(request, _MEDIA_TYPES)
    tag = etag(version + media_type.encode())
    if if_none_match is not None and matches(tag, if_none_match):
        response: Response[Any] = Response(None, status_code=304, headers={"Vary": "Accept"})
    else:
        response = page_or_json(request, template, view)
    response.headers |= {"ETag": f"W/{tag}", "Cache-Control": "no-cache"}
    return response


def page(request: Request[Any, Any, Any], template: str, **values: Any) -> Response[Any]:
    """The template has `up`, which leads to the API's root, and `here`, which leads back. Links are
    relative: a proxy may serve the API below a path that we do not know."""
    here = request.scope["path"].strip("/")
    levels = here.count("/") + (here != "" and request.scope["raw_path"].endswith(b"/"))
    return render(template, up="../" * levels or "./", here=here, **values)


def render(template: str, media_type: str = MediaType.HTML, **values: Any) -> Response[Any]:
    body = _templates.get_template(template).render(values)
    headers = {"Content-Security-Policy": _POLICY, "Vary": "Accept"}
    return Response(body.encode(), media_type=media_type, headers=headers)
