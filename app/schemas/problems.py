import re
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from app.schemas.types import PATTERN_MESSAGES, View

# An unknown field's name is the client's own input. It is repeated only if it looks like a name.
_FIELD_NAME = re.compile(r"\w{1,64}", re.ASCII)


class FieldError(View):
    field: str
    message: str


class Problem(View):
    """An error in the form of RFC 9457.

    `reason` is a word for programs and `errors` lists the invalid fields. `facts` says what a
    refusal depends on: for an order of more than is in stock, `short` lists the products."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str
    reason: str | None = None
    errors: list[FieldError] | None = None
    facts: dict[str, Any] | None = None


def field_errors(found: Sequence[ErrorDetails]) -> list[FieldError]:
    return [FieldError(field=_path(error), message=error_text(error)) for error in found]


def error_text(error: ErrorDetails) -> str:
    """pydantic's message in words for people: no pattern, no Python type, no `Value error`."""
    if error["type"] == "string_pattern_mismatch":
        return PATTERN_MESSAGES[error["ctx"]["pattern"]]
    if error["type"] == "model_type":
        return "must be a JSON object"
    return error["msg"].removeprefix("Value error, ")


def _path(error: ErrorDetails) -> str:
    return ".".join(part if _FIELD_NAME.fullmatch(part) else "?" for part in map(str, error["loc"]))
