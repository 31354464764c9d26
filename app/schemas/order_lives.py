"""What became of one order, and why."""

from typing import Annotated

from pydantic import Field

from app.schemas.messages import MessageRead
from app.schemas.orders import OrderDetail, OrderStatus
from app.schemas.reports import ReportRead
from app.schemas.types import DateTimeOutput, IdOutput, View


class StatusReached(View):
    """`message` is the message that placed the order or changed its status; null if that was a
    request over HTTP, or if the message is no longer kept."""

    status: Annotated[OrderStatus, Field(examples=["pending"], description="the status")]
    at: Annotated[DateTimeOutput, Field(description="since when it was so")]
    message: Annotated[MessageRead | None, Field(description="the message that did it")] = None


class StockMovementRead(View):
    id: Annotated[IdOutput, Field(description="the id of the movement")]
    product_id: Annotated[IdOutput, Field(description="the product whose stock changed")]
    reason: Annotated[str, Field(examples=["order"], description="why it changed")]
    quantity: Annotated[
        int, Field(examples=[-2], description="what was added, or taken if it is negative")
    ]
    created_at: Annotated[DateTimeOutput, Field(description="when it changed")]


class OrderReport(ReportRead):
    """`message_id` is that of the message in the queue `report` which told of the order."""

    message_id: Annotated[
        str, Field(examples=["report:2025-12-16:1"], description="the message that told of it")
    ]


class OrderLife(View):
    """`report` is null until the report of the order's day is built. `search_for` is what the log's
    lines about this order have in them."""

    order: Annotated[OrderDetail, Field(description="the order")]
    statuses: Annotated[list[StatusReached], Field(description="its statuses, one after the other")]
    stock_movements: Annotated[
        list[StockMovementRead], Field(description="what it took from the stock and gave back")
    ]
    report: Annotated[OrderReport | None, Field(description="its row in the report of its day")]
    search_for: Annotated[
        list[str],
        Field(
            examples=[["/orders/1", "report:2025-12-16:1"]],
            description="what to search the log for",
        ),
    ]
