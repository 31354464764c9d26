from sqlalchemy import select

from app.models.users import User
from app.repositories.entities import EntityRepository
from app.repositories.pages import Page, page_of
from app.schemas.pages import PageRequest


class UserRepository(EntityRepository[User], model=User):
    async def exists(self, user_id: int) -> bool:
        return bool(await self._connection.scalar(select(User.id).where(User.id == user_id)))

    async def page(self, wanted: PageRequest) -> Page[User]:
        return await page_of(self._connection, User, {}, wanted)
