"""What the tables of users, addresses and products have in common: rows with an id, read, added,
locked, changed and removed one by one."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, ClassVar, Generic, TypeVar, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Executable,
    any_,
    bindparam,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.base import Base
from app.repositories.constraints import duplicate
from app.repositories.unique_rows import insert_if_free

M = TypeVar("M", bound=Base)


class EntityRepository(Generic[M]):
    """A row has the columns of its model, so the model is its type, and mypy knows each column."""

    _find: ClassVar[Executable]
    _lock: ClassVar[Executable]
    _add: ClassVar[Callable[[tuple[str, ...]], Executable]]
    _change: ClassVar[Executable]
    _remove: ClassVar[Executable]

    def __init_subclass__(cls, model: type[M]) -> None:
        """Each statement is built once."""
        id = model.__table__.c.id
        one = id == bindparam("row_id")
        # ANY and not IN: for any number of ids it is the same statement, prepared once.
        cls._find = select(model).where(id == any_(bindparam("ids", type_=ARRAY(BigInteger))))
        cls._lock = select(model).where(one).with_for_update(key_share=True)
        cls._add = cache(partial(insert_if_free, model))
        # Sets the columns that are among the arguments.
        cls._change = update(model).where(one).values(updated_at=func.now()).returning(model)
        cls._remove = delete(model).where(one).returning(id)

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, ids: Sequence[int]) -> Sequence[M]:
        """The rows that exist, in any order."""
        rows = (await self._connection.execute(self._find, {"ids": ids})).all()
        return cast(Sequence[M], rows)

    async def lock(self, id: int) -> M | None:
        """The row, locked against other changes until the transaction ends."""
        found = await self._connection.execute(self._lock, {"row_id": id})
        return cast(M | None, found.one_or_none())

    async def add(self, fields: dict[str, Any]) -> M:
        """Raises Duplicate if a value that must be unique is taken."""
        statement = type(self)._add(tuple(fields))
        row = (await self._connection.execute(statement, fields)).one()
        if row.taken:
            raise duplicate(row.taken)
        return cast(M, row)

    async def change(self, id: int, fields: dict[str, Any]) -> M | None:
        """The row with its new values; None if there is none."""
        changed = await self._connection.execute(self._change, {"row_id": id, **fields})
        return cast(M | None, changed.one_or_none())

    async def remove(self, id: int) -> bool:
        """False if there is none."""
        return (await self._connection.scalar(self._remove, {"row_id": id})) is not None
