"""The parameters that operations share. In an error, a description follows the words "must be"."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from litestar.exceptions import ValidationException
from litestar.openapi.spec import Example
from litestar.params import HeaderParameter, PathParameter, QueryParameter
from pydantic import TypeAdapter, ValidationError

from app.queues import CONSUMED, Queue
from app.schemas.messages import MessageStatus
from app.schemas.orders import OrderStatus
from app.schemas.reports import ReportFormat
from app.schemas.types import ID_MAX, DateTimeInput

# With 100 rows on each page, a page beyond this one would begin after the largest possible id.
PAGE_MAX = ID_MAX // 100

_AN_ID = f"a whole number from 1 to {ID_MAX}"


PathId = Annotated[
    int,
    PathParameter(ge=1, le=ID_MAX, description=_AN_ID, examples=[Example(value=1)]),
]
QueryId = Annotated[
    int | None,
    QueryParameter(ge=1, le=ID_MAX, description=_AN_ID, examples=[Example(value=1)]),
]
Count = Annotated[
    int,
    QueryParameter(
        ge=1, le=100, description="1 to 100 rows on a page", examples=[Example(value=10)]
    ),
]
Page = Annotated[
    int | None,
    QueryParameter(
        ge=1,
        le=PAGE_MAX,
        description=f"a page number from 1 to {PAGE_MAX}",
        # Without `default`: generated clients would send it, and beside `after` it is refused.
        examples=[Example(value=1)],
    ),
]
# It has no example: Swagger UI would send it beside `page`.
After = Annotated[
    str | None,
    QueryParameter(
        pattern="^[A-Za-z0-9_-]{1,1500}$",
        description="the cursor of a Link header of this list, in place of `page`",
    ),
]
# What is compared with a text in the database, which holds no NUL.
_TEXT = r"^[^\x00]{1,255}$"


def _text(description: str, example: str) -> Any:
    return QueryParameter(pattern=_TEXT, description=description, examples=[Example(value=example)])


def _sort(*columns: str) -> Any:
    names = ", ".join(columns)
    return QueryParameter(
        description=f"one of {names}, what the list is ordered by; from the greatest down with "
        "a `-` in front",
        examples=[Example(value="-id")],
    )


Username = Annotated[str | None, _text("a username; capitals make no difference", "alex_doe")]
Email = Annotated[str | None, _text("an e-mail address", "alex@example.com")]
Sku = Annotated[str | None, _text("the sku of a product", "TEA-001")]
NamePrefix = Annotated[
    str | None, _text("what a name begins with; capitals make no difference", "green")
]
ExternalId = Annotated[str | None, _text("the id that the client gave an order", "web-1")]


def _moment(description: str, example: str) -> Any:
    """As text: Litestar would take a number for a time too."""
    return QueryParameter(
        pattern=r"^[1-8]\d{3}-\d{2}-\d{2}T[0-9:.]{5,15}(Z|[+-]\d{2}:\d{2})?$",
        schema_extra={"format": "date-time"},
        description=f"a time such as {example}, UTC if it has no offset; {description}",
        examples=[Example(value=example)],
    )


OrderedFrom = Annotated[str | None, _moment("orders from then on", "2025-12-16T00:00:00Z")]
OrderedBefore = Annotated[str | None, _moment("orders before it", "2025-12-17T00:00:00Z")]
_to_moment = TypeAdapter(DateTimeInput).validate_python


def moment(name: str, value: str | None) -> datetime | None:
    """The time that a parameter names. Raises ValidationException."""
    try:
        return None if value is None else _to_moment(value)
    except ValidationError:
        raise ValidationException(extra=[{"key": name}]) from None


UserSort = Annotated[Literal["id", "-id", "username", "-username"], _sort("id", "username")]
ProductSort = Annotated[
    Literal["id", "-id", "name", "-name", "price", "-price"], _sort("id", "name", "price")
]
OrderSort = Annotated[Literal["id", "-id", "ordered_at", "-ordered_at"], _sort("id", "ordered_at")]
StatusFilter = Annotated[
    OrderStatus | None,
    QueryParameter(
        description=f"one of {', '.join(OrderStatus)}",
        examples=[Example(value=OrderStatus.PENDING)],
    ),
]
ReportDate = Annotated[
    date | None,
    QueryParameter(
        description="a day such as 2025-12-16; without it, today",
        examples=[Example(value="2025-12-16")],
    ),
]
_DAYS, _DAYS_MAX = 14, 366


def _day(name: str, description: str, example: str) -> Any:
    return QueryParameter(
        name=name,
        description=f"a day such as {example}, {description}",
        examples=[Example(value=example)],
    )


FirstDay = Annotated[
    date | None,
    _day(
        "from",
        f"not after `to`, and at most {_DAYS_MAX - 1} days before it; without it, {_DAYS - 1} days "
        "before `to`",
        "2025-12-10",
    ),
]
LastDay = Annotated[date | None, _day("to", "the last one; without it, today", "2025-12-16")]


def days(first: date | None, last: date | None, today: date) -> tuple[date, date]:
    """The first and the last day of a range. Raises ValidationException."""
    last = last or today
    first = first or date.fromordinal(max(1, last.toordinal() - _DAYS + 1))
    if not 0 <= (last - first).days < _DAYS_MAX:
        raise ValidationException(extra=[{"key": "first"}])
    return first, last


Format = Annotated[
    ReportFormat | None,
    QueryParameter(
        description=f"one of {', '.join(ReportFormat)}; without it, what the header Accept prefers",
        examples=[Example(value=ReportFormat.JSON)],
    ),
]
_MESSAGE_ID: dict[str, Any] = {
    "pattern": r"^[^\x00]+$",
    "description": "the id that its sender gave it: text without NUL characters",
    "examples": [Example(value="MESSAGE_ID")],  # it differs in every run of producer.py
}
MessageId = Annotated[str, PathParameter(**_MESSAGE_ID)]
# Clients and proxies change some paths: they merge `//` and resolve `..`.
MessageIdQuery = Annotated[str | None, QueryParameter(**_MESSAGE_ID)]
MessageQueue = Annotated[
    Queue | None,
    QueryParameter(
        description=f"one of {', '.join(CONSUMED)}", examples=[Example(value=Queue.ORDER)]
    ),
]
if TYPE_CHECKING:
    _Consumed = str
else:
    _Consumed = Literal[tuple(queue.value for queue in CONSUMED)]
ConsumedQueue = Annotated[
    _Consumed,
    PathParameter(
        description=f"one of {', '.join(CONSUMED)}", examples=[Example(value=Queue.ORDER)]
    ),
]
LetterId = Annotated[
    str,
    PathParameter(
        pattern="^[0-9a-f]{32}$",
        description="the id that the list shows: 32 digits and letters from a to f",
        examples=[Example(value="5" * 32)],  # it depends on the letter
    ),
]
MessageStatusFilter = Annotated[
    MessageStatus | None,
    QueryParameter(
        description=f"one of {', '.join(MessageStatus)}",
        examples=[Example(value=MessageStatus.DEAD)],
    ),
]
Reason = Annotated[str | None, _text("why a message was rejected or is dead", "out-of-stock")]
SeenFrom = Annotated[str | None, _moment("messages from then on", "2025-12-16T00:00:00Z")]
SeenBefore = Annotated[str | None, _moment("messages before it", "2025-12-17T00:00:00Z")]
# The headers have no examples: Swagger UI would send them with every request.
# Documented here, but checked in idempotency.py.
KEY_PATTERN = "^[!-~]{1,255}$"
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        schema_extra={"pattern": KEY_PATTERN},
        description="1 to 255 visible ASCII characters; a repeat with the same key acts once",
    ),
]
IfMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-Match",
        description="the ETag of what you read; if it has changed since, nothing is written",
    ),
]
IfNoneMatch = Annotated[
    str | None,
    HeaderParameter(
        name="If-None-Match",
        description="the ETag of what you have; if it is still the same, the response is 304",
    ),
]
