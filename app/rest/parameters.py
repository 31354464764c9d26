"""The parameters that operations share. In an error, a description follows the words "must be"."""

from datetime import date
from typing import Annotated, Any

from litestar.openapi.spec import Example
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from app.schemas.orders import OrderStatus
from app.schemas.types import ID_MAX

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
        examples=[Example(value=1)],
        schema_extra={"default": 1},
    ),
]
# It has no example: Swagger UI would send it beside `page`.
After = Annotated[
    str | None,
    QueryParameter(
        pattern="^[A-Za-z0-9_-]{1,200}$",
        description="the cursor of a Link header of this list, in place of `page`",
    ),
]
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
_MESSAGE_ID: dict[str, Any] = {
    "pattern": r"^[^\x00]+$",
    "description": "the id that its sender gave it: text without NUL characters",
    "examples": [Example(value="MESSAGE_ID")],  # it differs in every run of producer.py
}
MessageId = Annotated[str, PathParameter(**_MESSAGE_ID)]
# Clients and proxies change some paths: they merge `//` and resolve `..`.
MessageIdQuery = Annotated[str | None, QueryParameter(**_MESSAGE_ID)]
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
