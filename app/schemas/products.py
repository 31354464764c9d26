from typing import Annotated

from pydantic import ConfigDict, Field, SkipValidation

from app.schemas.types import (
    ABSENT,
    INT4_MAX,
    NFC,
    WHOLE,
    Body,
    DateTimeOutput,
    IdInput,
    IdOutput,
    Money,
    SingleLine,
    Stored,
    Text,
    Total,
    View,
)

Sku = Annotated[SingleLine, Field(max_length=64, examples=["TEA-001"]), NFC]
Name = Annotated[SingleLine, Field(max_length=200, examples=["Green tea, 100 g"]), NFC]
Description = Annotated[Text, Field(max_length=2000, examples=["Sencha from Uji"]), NFC]
Price = Annotated[Money, Field(examples=["19.90"])]
Stock = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000, examples=[50]), WHOLE]
# Cancellations can lift a stock beyond what a product starts with. This is the most to which they
# can, so what was read can be written.
STOCK_MAX = INT4_MAX
NewStock = Annotated[int, Field(strict=True, ge=0, le=STOCK_MAX, examples=[100]), WHOLE]


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
    stock_quantity: NewStock = ABSENT


class ProductUpdateMessage(ProductUpdate):
    product_id: IdInput

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
    created_at: DateTimeOutput
    updated_at: DateTimeOutput | None


class ProductList(View):
    products: list[ProductRead]
    total: Total
