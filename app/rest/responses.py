"""Answers that are JSON already; one entity has the tag that guards a later PUT."""

from collections.abc import AsyncIterator, Sequence
from typing import TypeVar, cast

from litestar import Response
from litestar.response import Stream

from app.rest.etags import etag, matches
from app.schemas.types import View

V = TypeVar("V", bound=View)


def as_json_of(_: type[V], body: bytes) -> Response[V]:
    """Litestar encodes it no second time, and documents it as V."""
    headers = {"ETag": etag(body)}
    return cast(Response[V], Response(body, media_type="application/json", headers=headers))


def as_json_list_of(_: type[V], pieces: AsyncIterator[str]) -> Response[Sequence[V]]:
    """A failure on the way breaks the connection: no client takes a part for the whole."""
    return cast(Response[Sequence[V]], Stream(pieces, media_type="application/json"))


def not_modified_or(known: str | None, kind: type[V], body: bytes) -> Response[V]:
    """304 for a client that has this very answer."""
    if known is not None and matches(etag(body), known):
        return cast(Response[V], Response(None, status_code=304, headers={"ETag": etag(body)}))
    return as_json_of(kind, body)


def json_of(view: View) -> bytes:
    return view.model_dump_json().encode()
