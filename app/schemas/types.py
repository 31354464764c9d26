"""The field types that schemas share. Each rule is also in the JSON schema, so that clients can
check a value before they send it."""

import re
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Self, TypeVar, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    SkipValidation,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import CoreSchema

# Ids have 64 bits in the database. Outside they end where JavaScript and other readers of JSON,
# whose numbers are floats, begin to confuse neighbours.
ID_MAX = 2**53 - 1

# What a text may not hold, as parts of a regular expression's character class. The same pattern
# must mean the same to pydantic's engine, to JavaScript and to Python, so there is no \p{...} and
# no lookahead, and characters beyond U+FFFF stand for themselves.
_CONTROLS = r"\u0000-\u001f\u007f-\u009f"
# Characters that nobody sees, or that turn the direction of what stands beside them: the bidi
# controls, zero-width space, byte order mark, soft hyphen, fillers, tags, and what is no character.
_UNSEEN = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ufdd0-\ufdef\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
_SPACES = r"\u0020\u00a0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000"
# Unseen too, but Persian and the scripts of India are not spelled right without ZWNJ and ZWJ, and
# emoji and Japanese names not without variation selectors. So these may follow the letters and
# symbols that they are for, and no Latin, Greek or Cyrillic one.
_SELECTORS = "\\u180b-\\u180d\\u180f\\ufe00-\\ufe0f\U000e0100-\U000e01ef"
_JOINING = r"\u200c\u200d" + _SELECTORS
# By what it is not: Latin, Greek, Cyrillic, digits, punctuation, spaces, the unseen. So Hypothesis,
# which takes ranges apart character by character, is quick to make examples.
_JOINED = (
    r"[^\u0000-\u00a8\u00aa-\u00ad\u00af-\u058f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f"
    r"\u1d00-\u203b\u203d-\u2048\u204a-\u20ff\u2800-\u28ff\u2c00-\u302f\u3164\ua640-\ua69f"
    r"\ua720-\ua7ff\uab30-\uab6f\ufb00-\ufb17\ufdd0-\ufdef\ufe00-\ufe0f\ufeff-\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U0001d400-\U0001d7ff\U000e0000-\U000e0fff]"
)
_KEYCAP = r"[#*0-9]\ufe0f"
_LINE = f"[^{_CONTROLS}{_UNSEEN}{_JOINING}]"
_SEEN = f"[^{_CONTROLS}{_UNSEEN}{_JOINING}{_SPACES}]"
_WITH_JOINERS = f"{_JOINED}[{_JOINING}]{{1,3}}|{_KEYCAP}"

# PostgreSQL cannot store NUL in text. Lone surrogates need no rule: the JSON parser rejects them.
_TEXT_PATTERN = rf"^[^\u0000{_UNSEEN}]*$"
# No control characters, nothing blank at either end, not empty.
_SINGLE_LINE_PATTERN = (
    f"^(?:(?:{_SEEN}|{_WITH_JOINERS})(?:{_LINE}|{_WITH_JOINERS})*)?"
    f"(?:{_SEEN}|{_JOINED}[{_SELECTORS}]|{_KEYCAP})$"
)
# The HTML standard's rule for <input type=email>, and at least one dot in the domain.
_EMAIL_PATTERN = (
    r"^[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
    r"(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)+$"
)
# What a person reads when a pattern does not match; the pattern itself is in the JSON schema.
PATTERN_MESSAGES = {
    _TEXT_PATTERN: "must be text without NUL, invisible or direction-changing characters",
    _SINGLE_LINE_PATTERN: (
        "must be one line of text, not empty, without spaces at either end, and without invisible "
        "or direction-changing characters"
    ),
    _EMAIL_PATTERN: "must be an e-mail address such as jane@example.com",
}
Text = Annotated[str, StringConstraints(strict=True, pattern=_TEXT_PATTERN)]
SingleLine = Annotated[str, StringConstraints(strict=True, pattern=_SINGLE_LINE_PATTERN)]
Email = Annotated[str, StringConstraints(strict=True, max_length=254, pattern=_EMAIL_PATTERN)]


def to_nfc(value: Any) -> Any:
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


# Every Text and SingleLine is in NFC before its pattern and length are checked: what looks the same
# is the same. In an Annotated it must follow the bounds, as WHOLE must.
NFC = BeforeValidator(to_nfc)


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
IdOutput = Annotated[int, Field(examples=[1], description="the id that the service gave it")]
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
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+\.[0-9]{2}$"}, mode="serialization"),
]


# RFC 3339 with an optional offset; `fromisoformat` alone would also take week dates and bare hours.
# The years stop at 1000 and 8999 so that no offset moves a time out of the range that Python and
# ISO 8601 can write, and so that a time in a response can be sent again.
_DATE_TIME = re.compile(
    r"[1-8]\d{3}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})?",
    re.ASCII | re.IGNORECASE,
)
_NOT_A_TIME = (
    "must be a time such as 2025-12-16T12:50:00 or 2025-12-16T12:50:00Z, in the years 1000 to 8999"
)


def _parse_date_time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and _DATE_TIME.fullmatch(value):
            return datetime.fromisoformat(value.upper())
    except ValueError:
        pass
    raise ValueError(_NOT_A_TIME)


def _to_utc(moment: datetime) -> datetime:
    utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if not 1000 <= utc.year <= 8999:
        raise ValueError(_NOT_A_TIME)
    return utc


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
            "description": "UTC if it has no offset; in the years 1000 to 8999 of UTC",
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
CreatedAt = Annotated[DateTimeOutput, Field(description="when it was created, in UTC")]
UpdatedAt = Annotated[
    DateTimeOutput | None, Field(description="when it was last changed, in UTC; null until then")
]


_BOUNDS = {"pattern", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum"}


class _Unbounded:
    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema = handler(core_schema)
        for part in (schema, *schema.get("anyOf", ())):
            for bound in _BOUNDS & part.keys():
                del part[bound]
        return schema


T = TypeVar("T")
# A field of an input type in what goes out: it is not validated again, and its bounds are not
# stated. They are for what comes in: rows from before a rule, sums of lines and a stock that a
# cancellation has lifted may be beyond them.
Stored = Annotated[T, SkipValidation(), _Unbounded()]

# The default of a field that may be left out but not be null. Its None is never read: updates dump
# only the fields that were set (`exclude_unset`).
ABSENT: Any = Field(default=None)


class Body(BaseModel):
    """The body of a request or message, or a row of a file to load. An unknown field is an error:
    if it were ignored, what the sender meant by it would be lost silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class View(BaseModel):
    """The body of a response or reply. Its values come from the database and are not validated
    again: a field with an input type is Stored."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    @classmethod
    def of(cls, row: Any) -> Self:
        """A row of the database: what `model_validate` gives, in half of its time. A row is a named
        tuple, whose attributes are slower to read than itself."""
        fields = dict(zip(row._fields, row, strict=True))
        return cast(Self, cls.__pydantic_validator__.validate_python(fields))

    @classmethod
    def json_of(cls, row: Any) -> bytes:
        return cls.__pydantic_serializer__.to_json(cls.of(row))
