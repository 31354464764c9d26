"""What the tables of users, addresses and products have in common: rows with an id, read, added,
locked, changed and removed one by one."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast

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

from app.database import Connection
from app.models.base import Base
from app.repositories.constraints import duplicate
from app.repositories.invalidations import Announced, announced_by, announcing
from app.repositories.unique_rows import insert_if_free
from app.runtime.clock import now

M = TypeVar("M", bound=Base)


class Changed(NamedTuple, Generic[M]):
    row: M
    announced: Announced


class EntityRepository(Generic[M]):
    """A row has the columns of its model, so the model is its type, and mypy knows each column."""

    _find: ClassVar[Executable]
    _lock: ClassVar[Executable]
    _add: ClassVar[Callable[[tuple[str, ...]], Executable]]
    _change: ClassVar[Callable[..., Executable]]
    _remove: ClassVar[Callable[..., Executable]]

    def __init_subclass__(cls, model: type[M]) -> None:
        """Each statement is built once."""
        id = model.__table__.c.id
        one = id == bindparam("row_id")
        # ANY and not IN: for any number of ids it is the same statement, prepared once.
        cls._find = select(model).where(id == any_(bindparam("ids", type_=ARRAY(BigInteger))))
        cls._lock = select(model).where(one).with_for_update(key_share=True)
        cls._add = cache(partial(insert_if_free, model))
        cls._change = cache(partial(_change_of, model))
        cls._remove = cache(partial(_removal_of, model))

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def find(self, ids: Sequence[int]) -> Sequence[M]:
        """The rows that exist, in any order."""
        rows = (await self._connection.execute(self._find, {"ids": ids})).all()
        return cast(Sequence[M], rows)

    async def lock(self, id: int) -> M | None:
        """The row, locked against other changes until the transaction ends."""
        found = await self._connection.execute(self._lock, {"row_id": id})
        return cast(M | None, found.one_or_none())

    async def add(self, fields: dict[str, Any], *, is_last: bool = False) -> M:
        """`is_last` as `Connection.execute_last` means it. Raises Duplicate if a value that must be
        unique is taken."""
        statement = type(self)._add(tuple(fields))
        if is_last:
            row = await self._connection.execute_last(statement, fields)
        else:
            row = (await self._connection.execute(statement, fields)).one()
        assert row
        if row.taken:
            raise duplicate(row.taken)
        return cast(M, row)

    async def change(self, id: int, fields: dict[str, Any]) -> M | None:
        """The row with its new values; None if there is none."""
        statement = type(self)._change(tuple(fields), is_announced=False)
        changed = await self._connection.execute_last(statement, {"row_id": id, **fields})
        return cast(M | None, changed)

    async def remove(self, id: int) -> bool:
        """False if there is none."""
        statement = type(self)._remove(is_announced=False)
        return await self._connection.execute_last(statement, {"row_id": id}) is not None

    async def change_and_announce(
        self, id: int, fields: dict[str, Any], stale: str
    ) -> Changed[M] | None:
        """As `change`; the same statement announces that `stale` is: the key of the cached row."""
        statement = type(self)._change(tuple(fields), is_announced=True)
        return await self._announced(statement, {"row_id": id, **fields}, stale)

    async def remove_and_announce(self, id: int, stale: str) -> Changed[M] | None:
        """The row as it was; None if there is none. `stale` as in `change_and_announce`."""
        return await self._announced(type(self)._remove(is_announced=True), {"row_id": id}, stale)

    async def _announced(
        self, statement: Executable, arguments: dict[str, Any], stale: str
    ) -> Changed[M] | None:
        looked_at = now()
        row = await self._connection.execute_last(statement, {**arguments, "stale": stale})
        return None if row is None else Changed(cast(M, row), announced_by(row, stale, looked_at))


def _change_of(
    model: type[Base], columns: tuple[str, ...], *, is_announced: bool, **computed: Any
) -> Executable:
    """Sets the columns, and those that are `computed`."""
    table = model.__table__
    values = {name: bindparam(name, type_=table.c[name].type) for name in columns}
    change = (
        update(model)
        .where(table.c.id == bindparam("row_id"))
        .values(updated_at=func.now(), **values, **computed)
        .returning(*table.c)
    )
    return announcing(change) if is_announced else change


def _removal_of(model: type[Base], *, is_announced: bool) -> Executable:
    table = model.__table__
    removal = delete(model).where(table.c.id == bindparam("row_id")).returning(*table.c)
    return announcing(removal) if is_announced else removal
