from typing import Annotated

from pydantic import ConfigDict, Field, SkipValidation

from app.schemas.pages import ListView
from app.schemas.types import (
    ABSENT,
    ID_MAX,
    NFC,
    WHOLE,
    Body,
    CreatedAt,
    IdInput,
    IdOutput,
    Money,
    SingleLine,
    Stored,
    Text,
    Total,
    UpdatedAt,
    View,
)

Sku = Annotated[
    SingleLine,
    Field(max_length=64, examples=["TEA-001"], description="the shop's own number, unique"),
    NFC,
]
Name = Annotated[
    SingleLine,
    Field(max_length=200, examples=["Green tea, 100 g"], description="what customers read"),
    NFC,
]
Description = Annotated[
    Text,
    Field(max_length=2000, examples=["Sencha from Uji"], description="a text about the product"),
    NFC,
]
Price = Annotated[Money, Field(examples=["19.90"], description="of one unit, with two decimals")]
# As large as a JSON number can be exact. A cancellation that would lift a stock beyond it is
# refused, so what is read is accepted when it is written back.
STOCK_MAX = ID_MAX
Stock = Annotated[
    int,
    Field(strict=True, ge=0, le=STOCK_MAX, examples=[50], description="how many units there are"),
    WHOLE,
]


class ProductCreate(Body):
    sku: Sku | None = None
    name: Name
    description: Description | None = None
    price: Price
    stock_quantity: Stock


class ProductUpdate(Body):
    """Absent fields stay as they are; `null` clears sku and description."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"price": "17.50", "stock_quantity": 100}]}
    )

    sku: Sku | None = None
    name: Name = ABSENT
    description: Description | None = None
    price: Price = ABSENT
    stock_quantity: Stock = ABSENT


class ProductUpdateMessage(ProductUpdate):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"product_id": 1, "price": "17.50", "stock_quantity": 100}]}
    )

    product_id: Annotated[IdInput, Field(description="the product to change")]

    def changes(self) -> ProductUpdate:
        """What was sent, without the id: a field that was left out stays unset."""
        fields = self.model_fields_set - {"product_id"}
        return ProductUpdate.model_construct(fields, **{f: getattr(self, f) for f in fields})


class ProductRead(View):
    id: IdOutput
    sku: Stored[Sku | None]
    name: Stored[Name]
    description: Stored[Description | None]
    price: SkipValidation[Price]
    stock_quantity: Stored[Stock]
    created_at: CreatedAt
    updated_at: UpdatedAt


class ProductList(ListView):
    products: Annotated[list[ProductRead], Field(description="the products of this page")]
    total: Total
