from typing import Annotated

from litestar import Controller, Response, delete, get, post, put
from litestar.params import JSONBody

from app.rest.dependencies import ExactlyOnce, Users
from app.rest.errors import error_responses
from app.rest.etags import parse_if_match
from app.rest.parameters import Count, IfMatch, IfNoneMatch, Page, PathId, path_id
from app.rest.responses import as_json_of, json_of, not_modified_or
from app.schemas.users import UserCreate, UserList, UserRead, UserUpdate

# In the document's examples: what its POST made, and nothing needs.
MadeId = Annotated[int, path_id(2)]


class UserController(Controller):
    path = "/users"
    tags = ["users"]

    @get(summary="A page of users", responses=error_responses(422))
    async def list(self, users: Users, count: Count = 10, page: Page = 1) -> UserList:
        return await users.list(count, page)

    @get("/{user_id:int}", summary="One user", responses=error_responses(304, 404, 422))
    async def read(
        self, users: Users, user_id: PathId, if_none_match: IfNoneMatch = None
    ) -> Response[UserRead]:
        return not_modified_or(if_none_match, UserRead, await users.read(user_id))

    @post(summary="Create a user", responses=error_responses(400, 413, 415, 422))
    async def create(self, once: ExactlyOnce, data: JSONBody[UserCreate]) -> Response[UserRead]:
        return as_json_of(UserRead, await once(lambda uow: uow.users.create(data)))

    @put(
        "/{user_id:int}",
        summary="Change some fields of a user",
        responses=error_responses(400, 404, 412, 413, 415, 422),
    )
    async def update(
        self,
        users: Users,
        user_id: PathId,
        data: JSONBody[UserUpdate],
        if_match: IfMatch = None,
    ) -> Response[UserRead]:
        return as_json_of(
            UserRead, json_of(await users.update(user_id, data, parse_if_match(if_match)))
        )

    @delete(
        "/{user_id:int}",
        summary="Delete a user with the user's addresses",
        responses=error_responses(404, 409, 422),
    )
    async def delete(self, users: Users, user_id: MadeId) -> None:
        await users.delete(user_id)
