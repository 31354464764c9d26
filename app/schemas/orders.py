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
    CreatedAt,
    DateTimeInput,
    DateTimeOutput,
    IdInput,
    IdOutput,
    Money,
    SingleLine,
    Stored,
    Total,
    UpdatedAt,
    View,
)

ExternalId = Annotated[
    SingleLine,
    Field(max_length=64, examples=["web-1001"], description="the client's own id, unique"),
    NFC,
]
# So small that the sum of an order's 1,000 lines fits a 32-bit column.
Quantity = Annotated[
    int,
    Field(strict=True, gt=0, le=1_000_000, examples=[2], description="how many units"),
    WHOLE,
]


class OrderStatus(StrEnum):
    PENDING = "pending"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


class OrderLine(Body):
    product_id: Annotated[IdInput, Field(description="the product that is ordered")]
    quantity: Quantity


class OrderCreate(Body):
    user_id: Annotated[IdInput, Field(description="the user who orders")]
    delivery_address_id: Annotated[IdInput, Field(description="an address of this user")]
    items: Annotated[
        list[OrderLine],
        Field(
            min_length=1,
            max_length=1000,
            description="what is ordered; lines of the same product are added up",
        ),
    ]
    ordered_at: Annotated[
        DateTimeInput | None,
        Field(
            description="when it was ordered, in the years 1000 to 8999: UTC if it has no offset; "
            "without it, now"
        ),
    ] = None
    external_id: ExternalId | None = None


class OrderUpdate(Body):
    status: Annotated[
        OrderStatus, Field(examples=["processing"], description="the order's next status")
    ]


class OrderUpdateMessage(OrderUpdate):
    order_id: Annotated[IdInput, Field(description="the order to change")]


class OrderItemRead(View):
    product_id: Annotated[IdOutput, Field(description="the product that was ordered")]
    quantity: Stored[Quantity]
    unit_price: Annotated[
        Money, Field(examples=["19.90"], description="the product's price at the time of the order")
    ]


class OrderRead(View):
    id: IdOutput
    user_id: Annotated[IdOutput, Field(description="the user who ordered")]
    delivery_address_id: Annotated[
        IdOutput, Field(description="the address that was chosen; it may have been edited since")
    ]
    status: Annotated[OrderStatus, Field(description="how far the order is")]
    external_id: Stored[ExternalId | None]
    ordered_at: Annotated[DateTimeOutput, Field(description="when it was ordered, in UTC")]
    created_at: CreatedAt
    updated_at: UpdatedAt


class OrderDetail(OrderRead):
    delivery_address: Annotated[
        DeliveryAddress, Field(description="the address as it was when the order was placed")
    ]
    items: Annotated[list[OrderItemRead], Field(description="a line for each product")]

    @computed_field(  # type: ignore[prop-decorator]
        examples=["39.80"], description="the sum of all lines, with two decimals"
    )
    @property
    def total_price(self) -> Money:
        return sum((item.unit_price * item.quantity for item in self.items), Decimal("0.00"))


class OrderList(ListView):
    orders: Annotated[list[OrderRead], Field(description="the orders of this page")]
    total: Total
