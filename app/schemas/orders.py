from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import Field, SkipValidation, computed_field

from app.schemas.types import WHOLE, Body, Id, Identity, Line, Moment, Money, Timestamp, Total, View

ExternalId = Annotated[Line, Field(max_length=64, examples=["web-1001"])]
# Small enough that the summed lines of one order fit a 32-bit integer.
Quantity = Annotated[int, Field(strict=True, gt=0, le=1_000_000, examples=[2]), WHOLE]


class OrderStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class OrderLine(Body):
    product_id: Identity
    quantity: Quantity


class OrderCreate(Body):
    user_id: Identity
    delivery_address_id: Identity
    items: Annotated[list[OrderLine], Field(min_length=1, max_length=1000)]
    ordered_at: Moment | None = None
    external_id: ExternalId | None = None


class OrderUpdate(Body):
    status: Annotated[OrderStatus, Field(examples=["processing"])]


class OrderUpdateMessage(OrderUpdate):
    order_id: Identity


class OrderItemRead(View):
    product_id: Id
    quantity: SkipValidation[Quantity]
    unit_price: Annotated[Money, Field(examples=["19.90"])]


class OrderRead(View):
    id: Id
    user_id: Id
    delivery_address_id: Id
    status: OrderStatus
    external_id: SkipValidation[ExternalId | None]
    ordered_at: Timestamp
    created_at: Timestamp
    updated_at: Timestamp | None


class OrderDetail(OrderRead):
    items: list[OrderItemRead]

    @computed_field(examples=["39.80"])  # type: ignore[prop-decorator]
    @property
    def total_price(self) -> Money:
        return sum((item.unit_price * item.quantity for item in self.items), Decimal("0.00"))


class OrderList(View):
    orders: list[OrderRead]
    total: Total
