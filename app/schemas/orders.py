from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from pydantic import Field, computed_field

from app.schemas.addresses import DeliveryAddress
from app.schemas.pages import ListView
from app.schemas.types import (
    NFC,
    WHOLE,
    Body,
    DateTimeInput,
    DateTimeOutput,
    IdInput,
    IdOutput,
    Money,
    SingleLine,
    Stored,
    Total,
    View,
)

ExternalId = Annotated[SingleLine, Field(max_length=64, examples=["web-1001"]), NFC]
# So small that the sum of an order's 1,000 lines fits a 32-bit column.
Quantity = Annotated[int, Field(strict=True, gt=0, le=1_000_000, examples=[2]), WHOLE]


class OrderStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class OrderLine(Body):
    product_id: IdInput
    quantity: Quantity


class OrderCreate(Body):
    user_id: IdInput
    delivery_address_id: IdInput
    items: Annotated[list[OrderLine], Field(min_length=1, max_length=1000)]
    ordered_at: DateTimeInput | None = None
    external_id: ExternalId | None = None


class OrderUpdate(Body):
    status: Annotated[OrderStatus, Field(examples=["processing"])]


class OrderUpdateMessage(OrderUpdate):
    order_id: IdInput


class OrderItemRead(View):
    product_id: IdOutput
    quantity: Stored[Quantity]
    unit_price: Annotated[Money, Field(examples=["19.90"])]


class OrderRead(View):
    id: IdOutput
    user_id: IdOutput
    delivery_address_id: IdOutput
    status: OrderStatus
    external_id: Stored[ExternalId | None]
    ordered_at: DateTimeOutput
    created_at: DateTimeOutput
    updated_at: DateTimeOutput | None


class OrderDetail(OrderRead):
    delivery_address: DeliveryAddress
    items: list[OrderItemRead]

    @computed_field(examples=["39.80"])  # type: ignore[prop-decorator]
    @property
    def total_price(self) -> Money:
        return sum((item.unit_price * item.quantity for item in self.items), Decimal("0.00"))


class OrderList(ListView):
    orders: list[OrderRead]
    total: Total
