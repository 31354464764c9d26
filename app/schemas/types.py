"""The shared field types. Each rule stands in the JSON schema too, so that clients can check it."""

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

INT4_MAX = 2_147_483_647

# PostgreSQL cannot store NUL in text. Lone surrogates are no valid UTF-8 and fail in the parser.
_TEXT = r"^[^\u0000]*$"
# One line: no control characters, no blank at either end.
_LINE = (
    r"^[^\u0000-\u0020\u007f-\u00a0]"
    r"([^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u00a0])?$"
)
# The rule of the HTML living standard for <input type=email>, with at least one dot in the domain.
_EMAIL = (
    r"^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+$"
)
# The schema has the pattern, people get the words.
WORDS = {
    _TEXT: "must be text without NUL characters",
    _LINE: "must be one line of text, not empty, without blanks at its ends",
    _EMAIL: "must be an e-mail address such as jane@example.com",
}
Text = Annotated[str, StringConstraints(strict=True, pattern=_TEXT)]
SingleLine = Annotated[str, StringConstraints(strict=True, pattern=_LINE)]
Email = Annotated[str, StringConstraints(strict=True, max_length=254, pattern=_EMAIL)]


def _whole(value: Any) -> Any:
    """JSON has one kind of number, and JSON Schema calls 1.0 an integer."""
    if isinstance(value, float | Decimal) and 0 <= value <= INT4_MAX and value == int(value):
        return int(value)
    return value


# After the bounds, which else would not reach the JSON schema.
WHOLE = BeforeValidator(_whole)
IdInput = Annotated[int, Field(strict=True, gt=0, le=INT4_MAX, examples=[1]), WHOLE]
IdOutput = Annotated[int, Field(examples=[1])]
Total = Annotated[int, Field(examples=[1], description="rows on all pages together")]
Day = Annotated[date, Field(examples=["2025-12-16"])]

_MONEY = re.compile(r"\d{1,10}(\.\d{1,2})?", re.ASCII)
_CENT = Decimal("0.01")
MONEY_MAX = Decimal("9999999999.99")


def _parse_money(value: Any) -> Decimal:
    """A string such as "19.90", or a JSON number with at most two decimal places."""
    if isinstance(value, str) and _MONEY.fullmatch(value):
        return Decimal(value).quantize(_CENT)
    if not isinstance(value, Decimal | int | float) or isinstance(value, bool):
        raise ValueError('must be an amount of money, such as "19.90"')
    # str() of a float gives its shortest form, so 19.9 is read as 19.9 and not 19.8999...
    amount = Decimal(str(value))
    if amount.is_nan() or not 0 <= amount <= MONEY_MAX:
        raise ValueError(f"must be between 0 and {MONEY_MAX}")
    # What sums of floats are off by: 0.1 + 0.2 is 0.30000000000000004.
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
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,12}\.[0-9]{2}$"}, mode="serialization"),
]


# RFC 3339, but for the offset. `fromisoformat` alone would take week dates and bare hours too.
# The years are those that an offset cannot move out of what Python and ISO 8601 can write.
_MOMENT = re.compile(
    r"[1-8]\d{3}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?",
    re.ASCII | re.IGNORECASE,
)


def _from_text(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and _MOMENT.fullmatch(value):
            return datetime.fromisoformat(value.upper())
    except ValueError:
        pass
    raise ValueError(
        "must be a time such as 2025-12-16T12:50:00 or 2025-12-16T12:50:00Z, "
        "of the years 1000 to 8999"
    )


def _to_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


# A time that comes in: with an offset, or without one, which means UTC.
DateTimeInput = Annotated[
    datetime,
    BeforeValidator(_from_text),
    AfterValidator(_to_utc),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": "^[1-8]",
            "description": "UTC if it has no offset; of the years 1000 to 8999",
            "examples": ["2025-12-16T12:50:00Z"],
        },
        mode="validation",
    ),
]
# A time that goes out: UTC without an offset.
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


# The default of a field that may be left out but not be null: a dump of the set fields skips it.
ABSENT: Any = Field(default=None)


class Body(BaseModel):
    """What comes in. An unknown field is an error: it would be lost without a word."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """What goes out. What the database holds is not judged again: hence SkipValidation."""

    model_config = ConfigDict(from_attributes=True, frozen=True)
