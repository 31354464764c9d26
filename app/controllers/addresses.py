from litestar import Controller, Response, delete, get, post, put
from litestar.params import JSONBody

from app.rest.dependencies import ONE_CALL, Injected
from app.rest.errors import error_responses
from app.rest.etags import parse_if_match
from app.rest.idempotency import LOCATION, idempotent
from app.rest.parameters import After, Count, IfMatch, IfNoneMatch, Page, PathId
from app.rest.requests import JsonRequest
from app.rest.responses import ETAG, LINKS, json_response, not_modified_or, page_response, to_json
from app.schemas.addresses import AddressCreate, AddressList, AddressRead, AddressUpdate
from app.schemas.pages import PageRequest
from app.services.addresses import AddressService


class AddressController(Controller):
    """Where people's orders go."""

    tags = ["addresses"]

    @get(
        "/users/{user_id:int}/addresses",
        summary="A page of a user's addresses",
        responses=error_responses(404, 422),
        response_headers=[LINKS],
    )
    async def list(
        self,
        request: JsonRequest,
        addresses: Injected[AddressService],
        user_id: PathId,
        count: Count = 10,
        page: Page = None,
        after: After = None,
    ) -> Response[AddressList]:
        """Follow the `next` link to read on."""
        wanted = PageRequest(count, page, after)
        return page_response(request, wanted, await addresses.list(user_id, wanted))

    @post(
        "/users/{user_id:int}/addresses",
        summary="Add an address to a user",
        responses=error_responses(400, 404, 413, 415, 422),
        response_headers=[ETAG, LOCATION],
        opt=ONE_CALL,
    )
    @idempotent(creates="/addresses")
    async def create(
        self, addresses: Injected[AddressService], user_id: PathId, data: JSONBody[AddressCreate]
    ) -> Response[AddressRead]:
        """An order of this user may be delivered to it."""
        return json_response(await addresses.create(user_id, data))

    @get(
        "/addresses/{address_id:int}",
        summary="One address",
        responses=error_responses(304, 404, 422),
        response_headers=[ETAG],
    )
    async def read(
        self,
        addresses: Injected[AddressService],
        address_id: PathId,
        if_none_match: IfNoneMatch = None,
    ) -> Response[AddressRead]:
        """With the ETag of an earlier response in If-None-Match, 304 if nothing has changed."""
        return not_modified_or(if_none_match, to_json(await addresses.read(address_id)))

    @put(
        "/addresses/{address_id:int}",
        summary="Change some fields of an address",
        responses=error_responses(400, 404, 412, 413, 415, 422),
        response_headers=[ETAG],
        opt=ONE_CALL,
    )
    async def update(
        self,
        addresses: Injected[AddressService],
        address_id: PathId,
        data: JSONBody[AddressUpdate],
        if_match: IfMatch = None,
    ) -> Response[AddressRead]:
        """Absent fields stay as they are; `null` clears state and zip_code. Orders keep the
        address as it was when they were placed."""
        return json_response(await addresses.update(address_id, data, parse_if_match(if_match)))

    @delete(
        "/addresses/{address_id:int}",
        summary="Delete an address that no order needs",
        responses=error_responses(404, 409, 422),
        opt=ONE_CALL,
    )
    async def delete(self, addresses: Injected[AddressService], address_id: PathId) -> None:
        """409 while an order needs it."""
        await addresses.delete(address_id)
