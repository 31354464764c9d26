from typing import Annotated

from pydantic import ConfigDict, Field, SkipValidation

from app.schemas.pages import ListView
from app.schemas.types import (
    ABSENT,
    ID_MAX,
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
# As large as a JSON number can be exact. A cancellation that would lift a stock beyond it is
# refused, so what is read is accepted when it is written back.
STOCK_MAX = ID_MAX
Stock = Annotated[int, Field(strict=True, ge=0, le=STOCK_MAX, examples=[50]), WHOLE]


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


class ProductList(ListView):
    products: list[ProductRead]
    total: Total
