"""Entity tags: what a client has read, so that it overwrites nothing that it has not seen."""

from hashlib import blake2b

from app.errors import VersionMismatch
from app.schemas.types import View


def etag(body: bytes) -> str:
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'


def matches(tag: str, header: str) -> bool:
    """`header` is an If-Match or If-None-Match: `*`, or entity tags with commas between them."""
    given = [item.strip().removeprefix("W/") for item in header.split(",")]
    return "*" in given or tag in given


def require_match(if_match: str, current: View) -> None:
    """`current` must be locked, or the answer may be wrong by the time of the write."""
    if not matches(etag(current.model_dump_json().encode()), if_match):
        raise VersionMismatch
