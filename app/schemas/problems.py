import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from pydantic_core import ErrorDetails

from app.schemas.types import PATTERN_MESSAGES, View

# An unknown field's name is the client's own input. It is repeated only if it looks like a name.
_FIELD_NAME = re.compile(r"\w{1,64}", re.ASCII)

MOST_ERRORS = 20
MOST_FIELDS = 100
# The largest order, of a thousand lines, has little more than two thousand.
MOST_FIELDS_IN_ALL = 2500
TOO_MANY_FIELDS = (
    f"an object has more than {MOST_FIELDS} fields: see the documentation for those it may have"
)
_TEXTS = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this object",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "string_type": "must be text",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be a list",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "enum": "must be {expected}",
}


class FieldError(View):
    field: Annotated[str, Field(description="where it is; the parts of the path are joined by `.`")]
    message: Annotated[str, Field(description="what it must be, for people")]


class Problem(View):
    """An error in the form of RFC 9457."""

    type: Annotated[str, Field(description="always the same: the status says it")] = "about:blank"
    title: Annotated[str, Field(description="the status in words")]
    status: Annotated[int, Field(description="the status code of the response")]
    detail: Annotated[str, Field(description="what is wrong, for people")]
    request_id: Annotated[str, Field(description="the X-Request-ID of the response")]
    reason: Annotated[str | None, Field(description="what is wrong, in a word for programs")] = None
    errors: Annotated[list[FieldError] | None, Field(description="the invalid fields")] = None
    facts: Annotated[
        dict[str, Any] | None,
        Field(
            description="what a refusal depends on: for an order of more than is in stock, `short` "
            "lists the products"
        ),
    ] = None


def has_too_many_fields(document: Any) -> bool:
    """Whether validation would be long, and its list of errors too. To be asked before it: pydantic
    makes an error of each unknown field."""
    objects = [document]
    if isinstance(document, dict):
        objects += [item for v in document.values() if isinstance(v, list) for item in v]
    fields = [len(found) for found in objects if isinstance(found, dict)]
    return bool(fields) and (max(fields) > MOST_FIELDS or sum(fields) > MOST_FIELDS_IN_ALL)


def field_errors(found: Sequence[ErrorDetails]) -> list[FieldError]:
    """The first MOST_ERRORS of them."""
    return [
        FieldError(field=_path(error), message=error_text(error)) for error in found[:MOST_ERRORS]
    ]


def error_text(error: ErrorDetails) -> str:
    """pydantic's message in words for people: no pattern, no Python type, no `Value error`."""
    kind, values = error["type"], error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return PATTERN_MESSAGES[values["pattern"]]
    if kind in _TEXTS:
        return _TEXTS[kind].format(**values)
    return error["msg"].removeprefix("Value error, ")


def field_name(given: str) -> str:
    return given if _FIELD_NAME.fullmatch(given) else "?"


def _path(error: ErrorDetails) -> str:
    return ".".join(field_name(str(part)) for part in error["loc"])
