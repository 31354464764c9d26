from litestar import Controller, Response, delete, get, post, put
from litestar.params import JSONBody

from app.rest.dependencies import Injected
from app.rest.errors import error_responses
from app.rest.etags import parse_if_match
from app.rest.idempotency import LOCATION, idempotent
from app.rest.parameters import (
    After,
    Count,
    Email,
    IfMatch,
    IfNoneMatch,
    Page,
    PathId,
    Username,
    UserSort,
)
from app.rest.requests import JsonRequest
from app.rest.responses import LINKS, json_response, not_modified_or, page_response
from app.schemas.pages import PageRequest
from app.schemas.users import UserCreate, UserList, UserRead, UserUpdate
from app.services.users import UserService


class UserController(Controller):
    """People: they place orders."""

    path = "/users"
    tags = ["users"]

    @get(summary="A page of users", responses=error_responses(422), response_headers=[LINKS])
    async def list(
        self,
        request: JsonRequest,
        users: Injected[UserService],
        username: Username = None,
        email: Email = None,
        sort: UserSort = "id",
        count: Count = 10,
        page: Page = None,
        after: After = None,
    ) -> Response[UserList]:
        wanted = PageRequest(count, page, after, sort)
        return page_response(
            request, wanted, await users.list(wanted, username=username, email=email)
        )

    @get("/{user_id:int}", summary="One user", responses=error_responses(304, 404, 422))
    async def read(
        self, users: Injected[UserService], user_id: PathId, if_none_match: IfNoneMatch = None
    ) -> Response[UserRead]:
        return not_modified_or(if_none_match, await users.read(user_id))

    @post(
        summary="Create a user",
        responses=error_responses(400, 413, 415, 422),
        response_headers=[LOCATION],
    )
    @idempotent(creates="/users")
    async def create(
        self, users: Injected[UserService], data: JSONBody[UserCreate]
    ) -> Response[UserRead]:
        return json_response(await users.create(data))

    @put(
        "/{user_id:int}",
        summary="Change some fields of a user",
        responses=error_responses(400, 404, 412, 413, 415, 422),
    )
    async def update(
        self,
        users: Injected[UserService],
        user_id: PathId,
        data: JSONBody[UserUpdate],
        if_match: IfMatch = None,
    ) -> Response[UserRead]:
        return json_response(await users.update(user_id, data, parse_if_match(if_match)))

    @delete(
        "/{user_id:int}",
        summary="Delete a user with the user's addresses",
        responses=error_responses(404, 409, 422),
    )
    async def delete(self, users: Injected[UserService], user_id: PathId) -> None:
        await users.delete(user_id)
