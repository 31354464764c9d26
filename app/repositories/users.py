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

from app.models import User
from app.repositories.pages import Page, page_of

# `_ADD` and `_CHANGE` set the columns that are among the arguments.
_ADD = insert(User).returning(User)
_CHANGE = (
    update(User)
    .where(User.id == bindparam("user_id"))
    .values(updated_at=func.now())
    .returning(User)
)

# ANY and not IN: it is the same statement for any number of ids, and prepared once.
_FIND = select(User).where(User.id == any_(bindparam("ids", type_=ARRAY(Integer))))


class UserRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, user_ids: Sequence[int]) -> Sequence[Row[Any]]:
        return (await self._connection.execute(_FIND, {"ids": user_ids})).all()

    async def exists(self, user_id: int) -> bool:
        return bool(await self._connection.scalar(select(User.id).where(User.id == user_id)))

    async def page(self, limit: int, offset: int) -> Page:
        return await page_of(self._connection, User, {}, limit, offset)

    async def add(self, fields: dict[str, Any]) -> Row[Any]:
        return (await self._connection.execute(_ADD, fields)).one()

    async def lock(self, user_id: int) -> Row[Any] | None:
        query = select(User).where(User.id == user_id).with_for_update(key_share=True)
        return (await self._connection.execute(query)).one_or_none()

    async def change(self, user_id: int, fields: dict[str, Any]) -> Row[Any] | None:
        arguments = {"user_id": user_id, **fields}
        return (await self._connection.execute(_CHANGE, arguments)).one_or_none()

    async def remove(self, user_id: int) -> bool:
        statement = delete(User).where(User.id == user_id).returning(User.id)
        return (await self._connection.scalar(statement)) is not None
