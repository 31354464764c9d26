"""Cursors: where the next page of a list begins. Opaque to clients, but no secret."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple

import msgspec

from app.errors import BadCursor
from app.schemas.types import ID_MAX

_DIGEST_BYTES = 6


class Key(NamedTuple):
    """What a list is ordered by: an expression that an index is of, its type in PostgreSQL, and
    what values of this type a cursor may hold."""

    sql: str
    type: str
    values: Any


ID = Key("id", "bigint", Annotated[int, msgspec.Meta(ge=0, le=ID_MAX)])
# The values of a row for the keys of its list. The last one is the id, which makes the place
# unique.
Place = tuple[Any, ...]


def ordered(keys: Sequence[Key], *, is_reversed: bool) -> str:
    """For ORDER BY."""
    return ", ".join(f"{key.sql} DESC" if is_reversed else key.sql for key in keys)


def beyond(keys: Sequence[Key], *, is_reversed: bool) -> str:
    """The condition of the rows after a place, whose values are those of `place_arguments`."""
    columns = ", ".join(key.sql for key in keys)
    values = ", ".join(f"CAST(:after_{n} AS {key.type})" for n, key in enumerate(keys))
    return f"({columns}) {'<' if is_reversed else '>'} ({values})"


@cache
def _decoder(keys: tuple[Key, ...]) -> msgspec.json.Decoder[Place]:
    return msgspec.json.Decoder(tuple[tuple(key.values for key in keys)])  # type: ignore[misc]


def cursor_of(scope: str, place: Place) -> str:
    """`scope` names the list with its filters and its order: in another one the cursor is not
    valid."""
    values = msgspec.json.encode(place)
    digest = blake2b(scope.encode() + values, digest_size=_DIGEST_BYTES).digest()
    return urlsafe_b64encode(digest + values).rstrip(b"=").decode()


def place_arguments(scope: str, cursor: str, keys: Sequence[Key]) -> dict[str, Any]:
    """Raises BadCursor."""
    return {f"after_{n}": value for n, value in enumerate(place_of(scope, cursor, keys))}


def place_of(scope: str, cursor: str, keys: Sequence[Key]) -> Place:
    """Raises BadCursor if the cursor is damaged or of another scope."""
    with suppress(ValueError):
        values = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[_DIGEST_BYTES:]
        place = _decoder(tuple(keys)).decode(values)
        if cursor_of(scope, place) == cursor:
            return place
    raise BadCursor("`after` is not from a Link of this list, with these filters")
