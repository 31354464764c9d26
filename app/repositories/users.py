from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, case, func, select

from app.models.users import User
from app.repositories.cursors import Key
from app.repositories.entities import Changed, EntityRepository
from app.repositories.pages import Filter, Listing, Page
from app.schemas.pages import PageRequest

_KEY: Any = bindparam("new_key", type_=User.username_key.type)
# A user whose name clashed with an older one when keys were introduced has a key that ends in a
# line break and the id. It stays so for as long as the name counts as the same.
_NEW_KEY = case(
    (User.username_key == func.concat(_KEY, "\n", User.id), User.username_key), else_=_KEY
)


# All of these are unique, each by the index of its uniqueness.
_LIST = Listing(
    User,
    filters={
        "username": Filter("username_key = :username"),
        "email": Filter("lower(email) = lower(:email)"),
    },
    sorts={"username": Key("username_key", "text", str)},
)


class UserRepository(EntityRepository[User], model=User):
    async def exists(self, user_id: int) -> bool:
        return bool(await self._connection.scalar(select(User.id).where(User.id == user_id)))

    async def page(self, filters: Mapping[str, Any], wanted: PageRequest) -> Page[User]:
        """`username` is the key of one."""
        return await _LIST.page(self._connection, filters, wanted)

    async def rename(
        self, id: int, key: str, fields: dict[str, Any], stale: str
    ) -> Changed[User] | None:
        """As `change_and_announce`, for fields with a username, of which `key` is the key."""
        statement = type(self)._change(tuple(fields), is_announced=True, username_key=_NEW_KEY)
        return await self._announced(statement, {"row_id": id, "new_key": key, **fields}, stale)
