"""Successful responses. Their bodies are encoded here, once: Litestar passes bytes on unchanged."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from math import ceil
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

from litestar import Request, Response
from litestar.datastructures import ResponseHeader
from litestar.response import Stream

from app.rest.etags import etag, matches
from app.schemas.messages import MessageList
from app.schemas.pages import ListView, PageRequest
from app.schemas.types import View

K = TypeVar("K")
V = TypeVar("V", bound=View)
L = TypeVar("L", bound=ListView)
N = TypeVar("N", bound=MessageList)

ETAG = ResponseHeader(
    "ETag",
    documentation_only=True,
    required=True,
    description="the version of the body: send it in If-Match with a change, so that no change of "
    "others is overwritten",
)
WEAK_ETAG = ResponseHeader(
    "ETag",
    documentation_only=True,
    required=True,
    description="the version of what the body tells: send it in If-None-Match when you ask again",
)
LINKS = ResponseHeader(
    "Link",
    documentation_only=True,
    required=True,
    description='the `first`, `prev`, `next` and `last` page: `<...>; rel="next"`, with commas '
    "between them. Whoever follows `next` misses no row, whatever is added and deleted meanwhile; "
    "beside `after` there is no `prev`",
)
NEXT = ResponseHeader(
    "Link",
    documentation_only=True,
    description='the next page, if there is one: `<...>; rel="next"`',
)
POLICY = ResponseHeader(
    "Content-Security-Policy",
    documentation_only=True,
    description="nothing but what the page itself has is loaded or run",
)
VARY = ResponseHeader(
    "Vary", documentation_only=True, description="`Accept`, which chooses the media type"
)


def to_json(view: View) -> bytes:
    return view.model_dump_json().encode()


def public_path(request: Request[Any, Any, Any], path: str) -> str:
    """As the client knows it, whether or not a proxy has taken the root path off."""
    return f"{request.app.state.container.settings.root_path}{path}"


def json_response(view: V) -> Response[V]:
    """One entity, with the ETag that guards a later PUT."""
    return json_bytes(to_json(view))


def json_bytes(body: bytes) -> Response[Any]:
    """As `json_response`, of an entity that is JSON already."""
    return Response(body, media_type="application/json", headers={"ETag": etag(body)})


def page_response(request: Request[Any, Any, Any], wanted: PageRequest, view: L) -> Response[L]:
    """A page of a list, with the Links to others."""
    return _linked(request, view, _places(wanted, view))


def next_response(request: Request[Any, Any, Any], view: N) -> Response[N]:
    """A page of a list whose rows nobody counts, with the Link to the next one."""
    return _linked(request, view, [("next", ("after", view.next))] if view.next else [])


def _linked(
    request: Request[Any, Any, Any], view: V, places: Iterable[tuple[str, tuple[str, str]]]
) -> Response[V]:
    """`places` are relations, each with the parameter that leads there."""
    given = [p for p in request.query_params.multi_items() if p[0] not in ("page", "after")]
    path = public_path(request, request.scope["path"])
    links = [
        f'<{path}?{urlencode([*given, place])}>; rel="{relation}"' for relation, place in places
    ]
    headers = {"Link": ", ".join(links)} if links else None
    body: Any = to_json(view)
    return Response(body, media_type="application/json", headers=headers)


def _places(wanted: PageRequest, view: ListView) -> Iterator[tuple[str, tuple[str, str]]]:
    last = max(1, ceil(view.total / wanted.count))
    yield "first", ("page", "1")
    if wanted.after is None and wanted.number > 1:
        yield "prev", ("page", str(min(wanted.number - 1, last)))
    if view.next:
        yield "next", ("after", view.next)
    yield "last", ("page", str(last))


def preferred(request: Request[Any, Any, Any], media_types: Mapping[K, str]) -> K:
    """The one whose media type the client prefers, the first for a client without a preference."""
    first, *_ = media_types.values()
    wanted = request.accept.best_match(list(media_types.values()), first)
    return next(kind for kind, media_type in media_types.items() if media_type == wanted)


def stream(pieces: AsyncIterator[str], media_type: str) -> Response[Any]:
    """A failure halfway breaks the connection: no client mistakes a part for the whole."""
    headers = {"Vary": "Accept"}
    return cast(Response[Any], Stream(pieces, media_type=media_type, headers=headers))


def not_modified_or(if_none_match: str | None, body: bytes) -> Response[Any]:
    """304 for a client that has this version of the entity, and the entity for every other."""
    if if_none_match is not None and matches(etag(body), if_none_match):
        return Response(None, status_code=304, headers={"ETag": etag(body)})
    return json_bytes(body)
