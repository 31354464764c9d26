from typing import Any, cast

from sqlalchemy import bindparam, case, func, select, update

from app.models.users import User
from app.repositories.entities import EntityRepository
from app.repositories.pages import Page, page_of
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


class UserRepository(EntityRepository[User], model=User):
    async def exists(self, user_id: int) -> bool:
        return bool(await self._connection.scalar(select(User.id).where(User.id == user_id)))

    async def page(self, wanted: PageRequest) -> Page[User]:
        return await page_of(self._connection, User, {}, wanted)

    async def rename(self, id: int, key: str, fields: dict[str, Any]) -> User | None:
        """As `change`, for fields with a username, of which `key` is the key."""
        changed = await self._connection.execute(_RENAME, {"row_id": id, "new_key": key, **fields})
        return cast(User | None, changed.one_or_none())
