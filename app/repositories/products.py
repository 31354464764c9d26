from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Product, StockMovement
from app.repositories.pages import Page, page_of


class ProductRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, product_ids: Sequence[int]) -> Sequence[Product]:
        query = select(Product).where(Product.id.in_(product_ids))
        return (await self._session.scalars(query)).all()

    async def page(self, limit: int, offset: int) -> Page:
        return await page_of(self._session, Product, {}, limit, offset)

    async def add(self, fields: dict[str, Any]) -> Product:
        statement = insert(Product).values(fields).returning(Product)
        return (await self._session.scalars(statement)).one()

    async def lock(self, product_id: int) -> Product | None:
        query = select(Product).where(Product.id == product_id).with_for_update(key_share=True)
        return await self._session.scalar(query)

    async def change(self, product_id: int, fields: dict[str, Any]) -> Product:
        statement = (
            update(Product)
            .where(Product.id == product_id)
            .values(**fields, updated_at=func.now())
            .returning(Product)
            .execution_options(populate_existing=True)
        )
        return (await self._session.scalars(statement)).one()

    async def record_movement(self, product_id: int, reason: str, quantity: int) -> None:
        statement = insert(StockMovement).values(
            product_id=product_id, reason=reason, quantity=quantity
        )
        await self._session.execute(statement)

    async def remove(self, product_id: int) -> bool:
        statement = delete(Product).where(Product.id == product_id).returning(Product.id)
        return (await self._session.scalar(statement)) is not None
