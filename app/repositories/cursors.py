"""Cursors: where the next page of a list begins. Opaque to clients, but no secret."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from hashlib import blake2b
from typing import Annotated

import msgspec

from app.errors import BadCursor
from app.schemas.types import ID_MAX

# The values of a row in the columns that a list is ordered by. The last one is the id, which makes
# the place unique.
Place = tuple[Annotated[int, msgspec.Meta(ge=0, le=ID_MAX)]]
_decode = msgspec.json.Decoder(Place).decode
_DIGEST_BYTES = 6


def cursor_of(scope: str, place: Place) -> str:
    """`scope` names the list with its filters and its order: in another one the cursor is not
    valid."""
    values = msgspec.json.encode(place)
    digest = blake2b(scope.encode() + values, digest_size=_DIGEST_BYTES).digest()
    return urlsafe_b64encode(digest + values).rstrip(b"=").decode()


def place_of(scope: str, cursor: str) -> Place:
    """Raises BadCursor if the cursor is damaged or of another scope."""
    with suppress(ValueError):
        place: Place = _decode(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))[_DIGEST_BYTES:])
        if cursor_of(scope, place) == cursor:
            return place
    raise BadCursor("`after` is not from a Link of this list, with these filters")
