from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import bindparam, case, func, select, update

from app.models.users import User
from app.repositories.cursors import Key
from app.repositories.entities import EntityRepository
from app.repositories.pages import Listing, Page
from app.schemas.pages import PageRequest

_KEY: Any = bindparam("new_key", type_=User.username_key.type)
# A user whose name clashed with an older one when keys were introduced has a key that ends in a
# line break and the id. It stays so for as long as the name counts as the same.
_RENAME = (
    update(User)
    .where(User.id == bindparam("row_id"))
    .values(
        updated_at=func.now(),
        username_key=case(
            (User.username_key == func.concat(_KEY, "\n", User.id), User.username_key), else_=_KEY
        ),
    )
    .returning(User)
)


# All of these are unique, each by the index of its uniqueness.
_LIST = Listing(
    User,
    filters={"username": "username_key = :username", "email": "lower(email) = lower(:email)"},
    sorts={"username": Key("username_key", "text", str)},
)


class UserRepository(EntityRepository[User], model=User):
    async def exists(self, user_id: int) -> bool:
        return bool(await self._connection.scalar(select(User.id).where(User.id == user_id)))

    async def page(self, filters: Mapping[str, Any], wanted: PageRequest) -> Page[User]:
        """`username` is the key of one."""
        return await _LIST.page(self._connection, filters, wanted)

    async def rename(self, id: int, key: str, fields: dict[str, Any]) -> User | None:
        """As `change`, for fields with a username, of which `key` is the key."""
        changed = await self._connection.execute(_RENAME, {"row_id": id, "new_key": key, **fields})
        return cast(User | None, changed.one_or_none())
