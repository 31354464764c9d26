from typing import Any, cast

from sqlalchemy import Row, Table, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Address
from app.repositories.pages import Page, page_of

# Rows, where an entity would be made only to be read once. `_ADD` and `_CHANGE` set the columns
# that are among the arguments.
_ADDRESSES = cast(Table, Address.__table__)
_ADD = insert(_ADDRESSES).returning(*_ADDRESSES.c)
_CHANGE = (
    update(_ADDRESSES)
    .where(_ADDRESSES.c.id == bindparam("address_id"))
    .values(updated_at=func.now())
    .returning(*_ADDRESSES.c)
)


class AddressRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, address_id: int) -> Address | None:
        return await self._session.scalar(select(Address).where(Address.id == address_id))

    async def page(self, user_id: int, limit: int, offset: int) -> Page:
        return await page_of(self._session, Address, {"user_id": user_id}, limit, offset)

    async def add(self, user_id: int, fields: dict[str, Any]) -> Row[Any]:
        return (await self._session.execute(_ADD, {"user_id": user_id, **fields})).one()

    async def lock(self, address_id: int) -> Address | None:
        query = select(Address).where(Address.id == address_id).with_for_update(key_share=True)
        return await self._session.scalar(query)

    async def change(self, address_id: int, fields: dict[str, Any]) -> Row[Any] | None:
        arguments = {"address_id": address_id, **fields}
        return (await self._session.execute(_CHANGE, arguments)).one_or_none()

    async def remove(self, address_id: int) -> bool:
        statement = delete(Address).where(Address.id == address_id).returning(Address.id)
        return (await self._session.scalar(statement)) is not None
