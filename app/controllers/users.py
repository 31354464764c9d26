from litestar import Controller, Response, delete, get, post, put

from app.controllers.dependencies import Users, as_json_of
from app.controllers.errors import documented
from app.controllers.parameters import Count, Page, PathId
from app.schemas.users import UserCreate, UserList, UserRead, UserUpdate


class UserController(Controller):
    path = "/users"
    tags = ["users"]

    @get(summary="A page of users", responses=documented(422))
    async def list(self, users: Users, count: Count = 10, page: Page = 1) -> UserList:
        return await users.list(count, page)

    @get("/{user_id:int}", summary="One user", responses=documented(404, 422))
    async def read(self, users: Users, user_id: PathId) -> Response[UserRead]:
        return as_json_of(UserRead, await users.read(user_id))

    @post(summary="Create a user", responses=documented(400, 413, 415, 422))
    async def create(self, users: Users, data: UserCreate) -> UserRead:
        return await users.create(data)

    @put(
        "/{user_id:int}",
        summary="Change some fields of a user",
        responses=documented(400, 404, 413, 415, 422),
    )
    async def update(self, users: Users, user_id: PathId, data: UserUpdate) -> UserRead:
        return await users.update(user_id, data)

    @delete(
        "/{user_id:int}",
        summary="Delete a user with the user's addresses",
        responses=documented(404, 409, 422),
    )
    async def delete(self, users: Users, user_id: PathId) -> None:
        await users.delete(user_id)
