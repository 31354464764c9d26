from typing import Any

from sqlalchemy import Row, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import Address
from app.repositories.pages import Page, page_of

# `_ADD` and `_CHANGE` set the columns that are among the arguments.
_ADD = insert(Address).returning(Address)
_CHANGE = (
    update(Address)
    .where(Address.id == bindparam("address_id"))
    .values(updated_at=func.now())
    .returning(Address)
)


class AddressRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, address_id: int) -> Row[Any] | None:
        query = select(Address).where(Address.id == address_id)
        return (await self._connection.execute(query)).one_or_none()

    async def page(self, user_id: int, limit: int, offset: int) -> Page:
        return await page_of(self._connection, Address, {"user_id": user_id}, limit, offset)

    async def add(self, user_id: int, fields: dict[str, Any]) -> Row[Any]:
        return (await self._connection.execute(_ADD, {"user_id": user_id, **fields})).one()

    async def lock(self, address_id: int) -> Row[Any] | None:
        query = select(Address).where(Address.id == address_id).with_for_update(key_share=True)
        return (await self._connection.execute(query)).one_or_none()

    async def change(self, address_id: int, fields: dict[str, Any]) -> Row[Any] | None:
        arguments = {"address_id": address_id, **fields}
        return (await self._connection.execute(_CHANGE, arguments)).one_or_none()

    async def remove(self, address_id: int) -> bool:
        statement = delete(Address).where(Address.id == address_id).returning(Address.id)
        return (await self._connection.scalar(statement)) is not None
