"""The shared field types. Each rule stands in the JSON schema too, so that clients can check it."""

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
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
Text = Annotated[str, StringConstraints(strict=True, pattern=r"^[^\u0000]*$")]
# One line: no control characters, no blank at either end.
Line = Annotated[
    str,
    StringConstraints(
        strict=True,
        pattern=(
            r"^[^\u0000-\u0020\u007f-\u00a0]"
            r"([^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u0020\u007f-\u00a0])?$"
        ),
    ),
]
# The rule of the HTML living standard for <input type=email>, with at least one dot in the domain.
Email = Annotated[
    str,
    StringConstraints(
        strict=True,
        max_length=254,
        pattern=(
            r"^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
            r"(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+$"
        ),
    ),
]
Identity = Annotated[int, Field(strict=True, gt=0, le=INT4_MAX)]

_MONEY = re.compile(r"\d{1,10}(\.\d{1,2})?", re.ASCII)
MONEY_MAX = Decimal("9999999999.99")


def _parse_money(value: Any) -> Decimal:
    """A string such as "19.90", or a JSON number with at most two decimal places."""
    if isinstance(value, Decimal | int | float) and not isinstance(value, bool):
        try:
            # str() of a float gives its shortest form, so 19.9 is read as 19.9 and not 19.8999...
            amount = Decimal(str(value))
            exact = amount.quantize(Decimal("0.01"))
        except InvalidOperation:
            raise ValueError("must be an amount of money") from None
        if abs(amount - exact) > Decimal("1e-9"):
            raise ValueError("must have at most two decimal places")
        value = exact
    elif isinstance(value, str) and _MONEY.fullmatch(value):
        value = Decimal(value)
    else:
        raise ValueError('must be an amount of money, such as "19.90"')
    if not 0 <= value <= MONEY_MAX:
        raise ValueError(f"must be between 0 and {MONEY_MAX}")
    return Decimal(value).quantize(Decimal("0.01"))


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


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be within the years 1 to 9999") from None


def _from_text(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or "T" not in value.upper():
        raise ValueError("must be a time such as 2025-12-16T12:50:00 or 2025-12-16T12:50:00Z")
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError:
        raise ValueError(
            "must be a time such as 2025-12-16T12:50:00 or 2025-12-16T12:50:00Z"
        ) from None


# A time that comes in: with an offset, or without one, which means UTC.
Moment = Annotated[
    datetime,
    BeforeValidator(_from_text),
    AfterValidator(_to_utc),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation"),
]
# A time that goes out: UTC without an offset.
Timestamp = Annotated[
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


# The default of a field that may be left out but not be null: `model_dump(exclude_unset=True)` skips
# it.
ABSENT: Any = Field(default=None)


class Body(BaseModel):
    """What comes in. An unknown field is an error: it would be lost without a word."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """What goes out."""

    model_config = ConfigDict(from_attributes=True, frozen=True)
