from app.cache.reads import ReadThroughCache
from app.errors import NotFound
from app.repositories.users import UserRepository
from app.schemas.users import UserCreate, UserList, UserRead, UserUpdate
from app.services.after_commit import Changes
from app.services.preconditions import Precondition


class UserService:
    def __init__(self, users: UserRepository, cached: ReadThroughCache, changes: Changes) -> None:
        self._users = users
        self._cached = cached
        self._changes = changes

    async def list(self, count: int, page: int) -> UserList:
        found = await self._users.page(count, (page - 1) * count)
        rows = [UserRead.model_validate(row) for row in found.rows]
        return UserList(users=rows, total=found.total)

    async def create(self, body: UserCreate) -> UserRead:
        return UserRead.model_validate(await self._users.add(body.model_dump()))

    async def update(
        self, user_id: int, body: UserUpdate, precondition: Precondition | None = None
    ) -> UserRead:
        if precondition and (current := await self._users.lock(user_id)):
            precondition.require(UserRead.model_validate(current))
        user = await self._users.change(user_id, body.model_dump(exclude_unset=True))
        if user is None:
            raise NotFound("user", user_id)
        self._changes.deleted.add(self._cached.key(user_id))
        return UserRead.model_validate(user)

    async def delete(self, user_id: int) -> None:
        """With the user's addresses; refused while orders need the user."""
        if not await self._users.remove(user_id):
            raise NotFound("user", user_id)
        self._changes.deleted.add(self._cached.key(user_id))
