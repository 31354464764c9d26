from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    Integer,
    Row,
    Table,
    any_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Product, StockMovement
from app.repositories.pages import Page, page_of

# Rows, where an entity would be made only to be read once. `_ADD` and `_CHANGE` set the columns
# that are among the arguments.
_PRODUCTS = cast(Table, Product.__table__)
_MOVEMENTS = cast(Table, StockMovement.__table__)
_ADD = insert(_PRODUCTS).returning(*_PRODUCTS.c)
_CHANGE = (
    update(_PRODUCTS)
    .where(_PRODUCTS.c.id == bindparam("product_id"))
    .values(updated_at=func.now())
    .returning(*_PRODUCTS.c)
)

_FIND = select(*_PRODUCTS.c).where(_PRODUCTS.c.id == any_(bindparam("ids", type_=ARRAY(Integer))))


class ProductRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, product_ids: Sequence[int]) -> Sequence[Row[Any]]:
        return (await self._session.execute(_FIND, {"ids": product_ids})).all()

    async def page(self, limit: int, offset: int) -> Page:
        return await page_of(self._session, Product, {}, limit, offset)

    async def add(self, fields: dict[str, Any]) -> Row[Any]:
        return (await self._session.execute(_ADD, fields)).one()

    async def lock(self, product_id: int) -> Product | None:
        query = select(Product).where(Product.id == product_id).with_for_update(key_share=True)
        return await self._session.scalar(query)

    async def change(self, product_id: int, fields: dict[str, Any]) -> Row[Any] | None:
        arguments = {"product_id": product_id, **fields}
        return (await self._session.execute(_CHANGE, arguments)).one_or_none()

    async def record_movement(self, product_id: int, reason: str, quantity: int) -> None:
        fields = {"product_id": product_id, "reason": reason, "quantity": quantity}
        await self._session.execute(insert(_MOVEMENTS), fields)

    async def remove(self, product_id: int) -> bool:
        statement = delete(Product).where(Product.id == product_id).returning(Product.id)
        return (await self._session.scalar(statement)) is not None
