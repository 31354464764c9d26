"""Entity tags: the version of a response, in quotes, as If-Match and If-None-Match carry it."""

from app.schemas.versions import version_of
from app.services.preconditions import ANY_VERSION, Precondition


def etag(body: bytes) -> str:
    return f'"{version_of(body)}"'


def matches(tag: str, if_none_match: str) -> bool:
    """Weakly: a proxy that compresses a response makes its tag weak, and the row is still the
    same."""
    known = {item.removeprefix("W/") for item in _listed(if_none_match)}
    return "*" in known or tag in known


def parse_if_match(header: str | None) -> Precondition | None:
    if header is None:
        return None
    tags = _listed(header)
    if "*" in tags:
        return ANY_VERSION
    # A weak tag, `W/"..."`, never matches: what it stands for need not be the same in every byte.
    return Precondition(frozenset(tag[1:-1] for tag in tags if tag == f'"{tag[1:-1]}"'))


def _listed(header: str) -> set[str]:
    """`*`, or entity tags with commas between them."""
    return {item.strip() for item in header.split(",")}
