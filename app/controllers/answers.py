"""Answers that are JSON already, with the entity tag that guards a later PUT."""

from typing import TypeVar, cast

from litestar import Response

from app.schemas.types import View
from app.services.versions import etag, matches

V = TypeVar("V", bound=View)


def as_json_of(_: type[V], body: bytes) -> Response[V]:
    """Litestar encodes it no second time, and documents it as V."""
    headers = {"ETag": etag(body)}
    return cast(Response[V], Response(body, media_type="application/json", headers=headers))


def unless_known(known: str | None, kind: type[V], body: bytes) -> Response[V]:
    """304 for a client that has this very answer."""
    if known is not None and matches(etag(body), known):
        return cast(Response[V], Response(None, status_code=304, headers={"ETag": etag(body)}))
    return as_json_of(kind, body)


def json_of(view: View) -> bytes:
    return view.model_dump_json().encode()
