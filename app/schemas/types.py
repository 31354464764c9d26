"""The field types that schemas share. Each rule is also in the JSON schema, so that clients can
check a value before they send it."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

# Ids have 64 bits in the database. Outside they end where JavaScript and other readers of JSON,
# whose numbers are floats, begin to confuse neighbours.
ID_MAX = 2**53 - 1

# PostgreSQL cannot store NUL in text. Lone surrogates need no rule: the JSON parser rejects them.
_TEXT_PATTERN = r"^[^\u0000]*$"
# No control characters, no space at either end, not empty.
_SINGLE_LINE_PATTERN = (
    r"^[^\u0000-\u0020\u007f-\u00a0]"
    r"([^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u00a0])?$"
)
# The HTML standard's rule for <input type=email>, and at least one dot in the domain.
_EMAIL_PATTERN = (
    r"^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+$"
)
# What a person reads when a pattern does not match; the pattern itself is in the JSON schema.
PATTERN_MESSAGES = {
    _TEXT_PATTERN: "must be text without NUL characters",
    _SINGLE_LINE_PATTERN: "must be one line of text, not empty, without spaces at either end",
    _EMAIL_PATTERN: "must be an e-mail address such as jane@example.com",
}
Text = Annotated[str, StringConstraints(strict=True, pattern=_TEXT_PATTERN)]
SingleLine = Annotated[str, StringConstraints(strict=True, pattern=_SINGLE_LINE_PATTERN)]
Email = Annotated[str, StringConstraints(strict=True, max_length=254, pattern=_EMAIL_PATTERN)]


def _to_int(value: Any) -> Any:
    """Turn 1.0 into 1: JSON has one type of number, and JSON Schema calls 1.0 an integer."""
    if isinstance(value, float | Decimal) and 0 <= value <= ID_MAX and value == int(value):
        return int(value)
    return value


# Takes 1.0 as 1. In an Annotated it must follow the bounds: otherwise pydantic writes them into the
# JSON schema under names that JSON Schema does not know.
WHOLE = BeforeValidator(_to_int)
# Ids are checked when they come in; what goes out is from the database and has no bounds to state.
IdInput = Annotated[int, Field(strict=True, gt=0, le=ID_MAX, examples=[1]), WHOLE]
IdOutput = Annotated[int, Field(examples=[1])]
Total = Annotated[int, Field(examples=[1], description="the number of rows on all pages together")]
Day = Annotated[date, Field(examples=["2025-12-16"])]

_MONEY = re.compile(r"\d{1,10}(\.\d{1,2})?", re.ASCII)
_CENT = Decimal("0.01")
MONEY_MAX = Decimal("9999999999.99")


def _parse_money(value: Any) -> Decimal:
    """The amount with two decimal places, from a string such as "19.90" or a JSON number."""
    if isinstance(value, str) and _MONEY.fullmatch(value):
        return Decimal(value).quantize(_CENT)
    if not isinstance(value, Decimal | int | float) or isinstance(value, bool):
        raise ValueError('must be an amount of money, such as "19.90"')
    # str() gives a float's shortest form: 19.9 becomes 19.9, where Decimal(19.9) is 19.8999...
    amount = Decimal(str(value))
    if amount.is_nan() or not 0 <= amount <= MONEY_MAX:
        raise ValueError(f"must be between 0 and {MONEY_MAX}")
    # Tolerates the error of float arithmetic: 0.1 + 0.2 is 0.30000000000000004, and means 0.30.
    if abs(amount - amount.quantize(_CENT)) > amount * Decimal("1e-14"):
        raise ValueError("must have at most two decimal places")
    return amount.quantize(_CENT)


Money = Annotated[
    Decimal,
    BeforeValidator(_parse_money),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^[0-9]{1,10}(\.[0-9]{1,2})?$"},
                {"type": "number", "minimum": 0, "maximum": 9999999999.99, "multipleOf": 0.01},
            ]
        },
        mode="validation",
    ),
    # Longer than what comes in: a thousand lines of a million pieces each have a long total.
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,20}\.[0-9]{2}$"}, mode="serialization"),
]


# RFC 3339 with an optional offset; `fromisoformat` alone would also take week dates and bare hours.
# The years stop at 1000 and 8999 so that no offset moves a time out of the range that Python and
# ISO 8601 can write.
_DATE_TIME = re.compile(
    r"[1-8]\d{3}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?",
    re.ASCII | re.IGNORECASE,
)


def _parse_date_time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and _DATE_TIME.fullmatch(value):
            return datetime.fromisoformat(value.upper())
    except ValueError:
        pass
    raise ValueError(
        "must be a time such as 2025-12-16T12:50:00 or 2025-12-16T12:50:00Z, "
        "in the years 1000 to 8999"
    )


def _to_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


# A time in a request or message: with an offset, or without one, which means UTC.
DateTimeInput = Annotated[
    datetime,
    BeforeValidator(_parse_date_time),
    AfterValidator(_to_utc),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": "^[1-8]",
            "description": "UTC if it has no offset; in the years 1000 to 8999",
            "examples": ["2025-12-16T12:50:00Z"],
        },
        mode="validation",
    ),
]
# A time in a response: UTC, without an offset.
DateTimeOutput = Annotated[
    datetime,
    PlainSerializer(
        lambda moment: moment.astimezone(UTC).replace(tzinfo=None).isoformat(), return_type=str
    ),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{6})?$",
            "examples": ["2025-12-16T12:50:00.089033"],
        },
        mode="serialization",
    ),
]


# The default of a field that may be left out but not be null. Its None is never read: updates dump
# only the fields that were set (`exclude_unset`).
ABSENT: Any = Field(default=None)


class Body(BaseModel):
    """The body of a request or message, or a row of a file to load. An unknown field is an error:
    if it were ignored, what the sender meant by it would be lost silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """The body of a response or reply. Its values come from the database and are not validated
    again: a field with an input type has SkipValidation."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    @classmethod
    def json_of(cls, row: Any) -> bytes:
        """A row of the database as JSON: what `model_validate` and `model_dump_json` give, in half
        of their time. A row is a named tuple, whose attributes are slower to read than itself."""
        fields = dict(zip(row._fields, row, strict=True))
        view = cls.__pydantic_validator__.validate_python(fields)
        return cls.__pydantic_serializer__.to_json(view)
