from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import insert

from app.models.products import Product, StockMovement
from app.repositories.cursors import Key
from app.repositories.entities import EntityRepository
from app.repositories.pages import Filter, Listing, Page
from app.schemas.pages import PageRequest

# By code points and not by a language: then one index serves for beginnings too, and the order is
# the same on every server.
_NAME = 'left(lower(name) COLLATE "C", 200)'
_LIST = Listing(
    Product,
    filters={
        "sku": Filter("sku = :sku"),
        "name_prefix": Filter(
            f"{_NAME} >= lower(:name_prefix) AND {_NAME} < lower(:name_prefix) || chr(1114111)",
            sort="name",
        ),
    },
    sorts={"name": Key(_NAME, "text", str), "price": Key("price", "numeric", Decimal)},
)


class ProductRepository(EntityRepository[Product], model=Product):
    async def page(self, filters: Mapping[str, Any], wanted: PageRequest) -> Page[Product]:
        return await _LIST.page(self._connection, filters, wanted)

    async def record_movement(self, product_id: int, reason: str, quantity: int) -> None:
        fields = {"product_id": product_id, "reason": reason, "quantity": quantity}
        await self._connection.execute(insert(StockMovement), fields)
