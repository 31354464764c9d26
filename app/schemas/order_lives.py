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

    status: Annotated[OrderStatus, Field(examples=["pending"])]
    at: DateTimeOutput
    message: MessageRead | None = None


class StockMovementRead(View):
    id: IdOutput
    product_id: IdOutput
    reason: Annotated[str, Field(examples=["order"])]
    quantity: Annotated[int, Field(examples=[-2])]
    created_at: DateTimeOutput


class OrderReport(ReportRead):
    """`message_id` is that of the message in the queue `report` which told of the order."""

    message_id: Annotated[str, Field(examples=["report:2025-12-16:1"])]


class OrderLife(View):
    """`report` is null until the report of the order's day is built. `search_for` is what the log's
    lines about this order have in them."""

    order: OrderDetail
    statuses: list[StatusReached]
    stock_movements: list[StockMovementRead]
    report: OrderReport | None
    search_for: Annotated[list[str], Field(examples=[["/orders/1", "report:2025-12-16:1"]])]
