"""If-Match lists the versions for which a change is allowed."""

import pytest

from app.errors import VersionMismatch
from app.rest.etags import etag, parse_if_match
from app.schemas.health import Liveness
from app.schemas.versions import version_of

VIEW = Liveness()
TAG = etag(VIEW.model_dump_json().encode())


@pytest.mark.parametrize(
    "header", ["*", TAG, f"W/{TAG}", f'"x", {TAG}', f' "x" ,W/{TAG} ', '"x", *']
)
def test_the_header_lists_the_current_version(header: str) -> None:
    precondition = parse_if_match(header)
    assert precondition
    precondition.require(VIEW)


@pytest.mark.parametrize(
    "header", ["", '"', '""', '"x"', TAG.strip('"'), TAG[:-1], "W/", f"x{TAG}"]
)
def test_the_header_does_not_list_the_current_version(header: str) -> None:
    precondition = parse_if_match(header)
    assert precondition
    with pytest.raises(VersionMismatch):
        precondition.require(VIEW)


def test_without_the_header_there_is_no_precondition() -> None:
    assert parse_if_match(None) is None


def test_a_version_is_a_tag_without_quotes() -> None:
    assert TAG == f'"{version_of(VIEW.model_dump_json().encode())}"'
