from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    Integer,
    Row,
    any_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import Product, StockMovement
from app.repositories.pages import Page, page_of

# `_ADD` and `_CHANGE` set the columns that are among the arguments.
_ADD = insert(Product).returning(Product)
_CHANGE = (
    update(Product)
    .where(Product.id == bindparam("product_id"))
    .values(updated_at=func.now())
    .returning(Product)
)

_FIND = select(Product).where(Product.id == any_(bindparam("ids", type_=ARRAY(Integer))))


class ProductRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, product_ids: Sequence[int]) -> Sequence[Row[Any]]:
        return (await self._connection.execute(_FIND, {"ids": product_ids})).all()

    async def page(self, limit: int, offset: int) -> Page:
        return await page_of(self._connection, Product, {}, limit, offset)

    async def add(self, fields: dict[str, Any]) -> Row[Any]:
        return (await self._connection.execute(_ADD, fields)).one()

    async def lock(self, product_id: int) -> Row[Any] | None:
        query = select(Product).where(Product.id == product_id).with_for_update(key_share=True)
        return (await self._connection.execute(query)).one_or_none()

    async def change(self, product_id: int, fields: dict[str, Any]) -> Row[Any] | None:
        arguments = {"product_id": product_id, **fields}
        return (await self._connection.execute(_CHANGE, arguments)).one_or_none()

    async def record_movement(self, product_id: int, reason: str, quantity: int) -> None:
        fields = {"product_id": product_id, "reason": reason, "quantity": quantity}
        await self._connection.execute(insert(StockMovement), fields)

    async def remove(self, product_id: int) -> bool:
        statement = delete(Product).where(Product.id == product_id).returning(Product.id)
        return (await self._connection.scalar(statement)) is not None
