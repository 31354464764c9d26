from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Address
from app.repositories.pages import Page, page_of


class AddressRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, address_id: int) -> Address | None:
        return await self._session.scalar(select(Address).where(Address.id == address_id))

    async def page(self, user_id: int, limit: int, offset: int) -> Page:
        return await page_of(self._session, Address, {"user_id": user_id}, limit, offset)

    async def add(self, user_id: int, fields: dict[str, Any]) -> Address:
        statement = insert(Address).values(user_id=user_id, **fields).returning(Address)
        return (await self._session.scalars(statement)).one()

    async def lock(self, address_id: int) -> Address | None:
        query = select(Address).where(Address.id == address_id).with_for_update(key_share=True)
        return await self._session.scalar(query)

    async def change(self, address_id: int, fields: dict[str, Any]) -> Address:
        statement = (
            update(Address)
            .where(Address.id == address_id)
            .values(**fields, updated_at=func.now())
            .returning(Address)
            .execution_options(populate_existing=True)
        )
        return (await self._session.scalars(statement)).one()

    async def remove(self, address_id: int) -> bool:
        statement = delete(Address).where(Address.id == address_id).returning(Address.id)
        return (await self._session.scalar(statement)) is not None
