"""Entity tags: the version of a response, in quotes, as If-Match and If-None-Match carry it."""

from app.schemas.versions import version_of
from app.services.preconditions import ANY_VERSION, Precondition


def etag(body: bytes) -> str:
    return f'"{version_of(body)}"'


def matches(tag: str, if_none_match: str) -> bool:
    known = _listed(if_none_match)
    return "*" in known or tag in known


def parse_if_match(header: str | None) -> Precondition | None:
    if header is None:
        return None
    tags = _listed(header)
    if "*" in tags:
        return ANY_VERSION
    return Precondition(frozenset(tag[1:-1] for tag in tags if tag == f'"{tag[1:-1]}"'))


def _listed(header: str) -> set[str]:
    """`*`, or entity tags with commas between them. A weak tag counts as a strong one: a proxy
    that compresses a response makes its tag weak, and the row is still the same."""
    return {item.strip().removeprefix("W/") for item in header.split(",")}
