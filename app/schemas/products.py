from typing import Annotated

from pydantic import Field

from app.schemas.types import ABSENT, Body, Identity, Line, Money, Text, Timestamp, View

Sku = Annotated[Line, Field(max_length=64, examples=["TEA-001"])]
Name = Annotated[Line, Field(max_length=200, examples=["Green tea, 100 g"])]
Description = Annotated[Text, Field(max_length=2000, examples=["Sencha from Uji"])]
Price = Annotated[Money, Field(examples=["19.90"])]
Stock = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000, examples=[50])]


class ProductCreate(Body):
    sku: Sku | None = None
    name: Name
    description: Description | None = None
    price: Price
    stock_quantity: Stock


class ProductUpdate(Body):
    """Absent fields stay; `null` clears sku and description."""

    sku: Sku | None = None
    name: Name = ABSENT
    description: Description | None = None
    price: Price = ABSENT
    stock_quantity: Stock = ABSENT


class ProductUpdateMessage(ProductUpdate):
    product_id: Identity

    def changes(self) -> ProductUpdate:
        fields = self.model_fields_set - {"product_id"}
        return ProductUpdate.model_construct(fields, **{f: getattr(self, f) for f in fields})


class ProductRead(View):
    id: int
    sku: str | None
    name: str
    description: str | None
    price: Price
    stock_quantity: int
    created_at: Timestamp
    updated_at: Timestamp | None


class ProductList(View):
    products: list[ProductRead]
    total: int
