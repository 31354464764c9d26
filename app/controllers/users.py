from litestar import Controller, Response, delete, get, post, put
from litestar.params import JSONBody

from app.rest.dependencies import ONE_CALL, Injected
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
from app.rest.responses import ETAG, LINKS, json_response, not_modified_or, page_response
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
        """Follow the `next` link to read on."""
        wanted = PageRequest(count, page, after, sort)
        return page_response(
            request, wanted, await users.list(wanted, username=username, email=email)
        )

    @get(
        "/{user_id:int}",
        summary="One user",
        responses=error_responses(304, 404, 422),
        response_headers=[ETAG],
    )
    async def read(
        self, users: Injected[UserService], user_id: PathId, if_none_match: IfNoneMatch = None
    ) -> Response[UserRead]:
        """With the ETag of an earlier response in If-None-Match, 304 if nothing has changed."""
        return not_modified_or(if_none_match, await users.read(user_id))

    @post(
        summary="Create a user",
        responses=error_responses(400, 413, 415, 422),
        response_headers=[ETAG, LOCATION],
        opt=ONE_CALL,
    )
    @idempotent(creates="/users")
    async def create(
        self, users: Injected[UserService], data: JSONBody[UserCreate]
    ) -> Response[UserRead]:
        """400 if the username or the e-mail address is taken, whatever its capitals."""
        return json_response(await users.create(data))

    @put(
        "/{user_id:int}",
        summary="Change some fields of a user",
        responses=error_responses(400, 404, 412, 413, 415, 422),
        response_headers=[ETAG],
        opt=ONE_CALL,
    )
    async def update(
        self,
        users: Injected[UserService],
        user_id: PathId,
        data: JSONBody[UserUpdate],
        if_match: IfMatch = None,
    ) -> Response[UserRead]:
        """Absent fields stay as they are; `null` clears the description."""
        return json_response(await users.update(user_id, data, parse_if_match(if_match)))

    @delete(
        "/{user_id:int}",
        summary="Delete a user with the user's addresses",
        responses=error_responses(404, 409, 422),
        opt=ONE_CALL,
    )
    async def delete(self, users: Injected[UserService], user_id: PathId) -> None:
        """409 while an order needs the user."""
        await users.delete(user_id)
