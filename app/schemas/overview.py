"""How the service is, at one look."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from app.schemas.health import PartStatus
from app.schemas.messages import MessageRead
from app.schemas.orders import OrderStatus
from app.schemas.reports import ReportSummary
from app.schemas.types import DateTimeOutput, Day, IdOutput, View


class Seen(View):
    """What one look has found. `current` is false if the last look came to nothing or is not back
    yet: then these are the figures of an earlier one."""

    seen_at: Annotated[DateTimeOutput, Field(description="when it was so, in UTC")]
    current: Annotated[
        bool, Field(examples=[True], description="whether the last look has found it")
    ]


class PartHealth(View):
    name: Annotated[
        str, Field(examples=["postgresql"], description="the server or queue, as in /health/ready")
    ]
    status: Annotated[PartStatus, Field(examples=["ok"], description="how it is")]
    reason: Annotated[str | None, Field(description="what is wrong with it")] = None


class LastOrder(View):
    id: IdOutput
    status: Annotated[OrderStatus, Field(examples=["pending"], description="where it is")]
    ordered_at: Annotated[DateTimeOutput, Field(description="when it was ordered, in UTC")]


class OrdersToday(View):
    """By the times at which they were ordered, in days of REPORT_TIMEZONE."""

    day: Annotated[Day, Field(description="the day that is today")]
    begins: Annotated[DateTimeOutput, Field(description="when it began, in UTC")]
    by_status: Annotated[
        dict[OrderStatus, int],
        Field(examples=[{"pending": 2, "cancelled": 1}], description="the orders in each status"),
    ]
    total: Annotated[int, Field(examples=[3], description="the orders in all statuses")]
    complete: Annotated[
        bool,
        Field(
            examples=[True],
            description="false if there are too many to count: then these are some of them",
        ),
    ]
    dated_back: Annotated[
        int, Field(examples=[0], description="orders that came today and are of earlier days")
    ]
    last_hour: Annotated[
        list[int],
        Field(
            examples=[[0, 2, 1]],
            description="the orders of each of the last 60 minutes, the running one last",
        ),
    ]
    last: Annotated[
        list[LastOrder], Field(description="the last orders of any day, the newest first")
    ]
    minute: Annotated[DateTimeOutput, Field(description="when the running minute began, in UTC")]


class ProductLeft(View):
    id: IdOutput
    sku: Annotated[str | None, Field(description="the code that the shop knows it by")]
    name: Annotated[str, Field(examples=["Green tea"], description="its name")]
    stock_quantity: Annotated[int, Field(examples=[2], description="the pieces that are left")]


class Stock(View):
    out_of_stock: Annotated[int, Field(examples=[0], description="products without a piece")]
    nearly: Annotated[int, Field(examples=[1], description="products with up to `few` pieces")]
    few: Annotated[int, Field(examples=[5], description="what counts as few")]
    products: Annotated[
        list[ProductLeft],
        Field(description="some of both: those with a piece come first, the fewest first"),
    ]


class ShopOverview(Seen):
    """What PostgreSQL knows."""

    orders: Annotated[OrdersToday, Field(description="today's orders")]
    stock: Annotated[Stock, Field(description="what is nearly out of stock")]
    reports: Annotated[ReportSummary, Field(description="the reports of the last 14 days")]
    messages: Annotated[
        list[MessageRead],
        Field(description="the last messages that were not applied, the newest first"),
    ]


class QueueOverview(View):
    queue: Annotated[str, Field(examples=["order"], description="its name")]
    messages: Annotated[int, Field(examples=[0], description="what waits in it")]
    oldest_seconds: Annotated[
        int | None,
        Field(
            description="the age of the oldest of them, in full minutes; "
            "null: RabbitMQ does not tell"
        ),
    ]
    consumers: Annotated[
        int | None, Field(examples=[1], description="who consumes it; null: streams do not tell")
    ]
    dead_letters: Annotated[
        int | None,
        Field(examples=[0], description="those of its messages that can never be applied"),
    ]


class QueuesOverview(Seen):
    """What the broker knows."""

    queues: Annotated[list[QueueOverview], Field(description="the queues")]


class OutboxOverview(Seen):
    messages: Annotated[int, Field(examples=[0], description="what waits to be published")]
    oldest_seconds: Annotated[
        int, Field(examples=[0], description="the age of the oldest of them, in full minutes")
    ]


class CacheOverview(View):
    """Since this process started; with several web processes, of all of them."""

    reads: Annotated[int, Field(examples=[8], description="reads of cached rows")]
    hits: Annotated[int, Field(examples=[6], description="those that found the row in the cache")]


class Overview(View):
    """What is null was not found out since this process started."""

    at: Annotated[DateTimeOutput, Field(description="when the last look was, in UTC")]
    problems: Annotated[
        list[str],
        Field(
            examples=[["nobody consumes order: start the worker"]],
            description="what is wrong and what to do, as `python -m app doctor` says it",
        ),
    ]
    broker: Annotated[str, Field(examples=["RabbitMQ"], description="what the queues are kept in")]
    parts: Annotated[
        list[PartHealth], Field(description="the servers, and queues that are refused")
    ]
    shop: Annotated[ShopOverview | None, Field(description="orders, stock, reports and messages")]
    queues: Annotated[QueuesOverview | None, Field(description="the queues")]
    outbox: Annotated[
        OutboxOverview | None, Field(description="the messages that wait to be published")
    ]
    cache: Annotated[CacheOverview, Field(description="how often the cache had what was asked for")]

    @property
    def version(self) -> bytes:
        """The same for two looks that found the same. How old figures are is part of it, once they
        grow old."""
        return self.model_dump_json(exclude=_TIMES if self.is_current else None).encode()

    @property
    def is_current(self) -> bool:
        seen: list[Seen | None] = [self.shop, self.queues, self.outbox]
        return all(part.current for part in seen if part)

    def age(self, seen_at: datetime) -> int:
        return round((self.at - seen_at).total_seconds())


_TIMES: dict[str, Any] = {
    "at": True,
    **{name: {"seen_at"} for name in ("shop", "queues", "outbox")},
}
