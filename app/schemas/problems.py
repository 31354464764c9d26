import re
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

from app.schemas.types import WORDS, View

# What a client calls a field is told back to it, unless it is no name of a field.
_NAME = re.compile(r"\w{1,64}", re.ASCII)


class FieldError(View):
    field: str
    message: str


class Problem(View):
    """An error, as RFC 9457 writes it.

    `reason` is a word for programs, `errors` names the invalid fields, `facts` what the refusal
    depends on: `short` for an order that asks for more than there is."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str
    reason: str | None = None
    errors: list[FieldError] | None = None
    facts: dict[str, Any] | None = None


def field_errors(found: Sequence[ErrorDetails]) -> list[FieldError]:
    return [FieldError(field=_path(error), message=words_of(error)) for error in found]


def words_of(error: ErrorDetails) -> str:
    """pydantic's message, without what only programmers understand."""
    if error["type"] == "string_pattern_mismatch":
        return WORDS[error["ctx"]["pattern"]]
    if error["type"] == "model_type":
        return "must be a JSON object"
    return error["msg"].removeprefix("Value error, ")


def _path(error: ErrorDetails) -> str:
    return ".".join(part if _NAME.fullmatch(part) else "?" for part in map(str, error["loc"]))
