from typing import Annotated

from litestar import Controller, Response, delete, get, post, put
from litestar.params import JSONBody

from app.rest.dependencies import Addresses, ExactlyOnce
from app.rest.errors import error_responses
from app.rest.etags import parse_if_match
from app.rest.parameters import Count, IfMatch, IfNoneMatch, Page, PathId, path_id
from app.rest.responses import as_json_of, json_of, not_modified_or
from app.schemas.addresses import AddressCreate, AddressList, AddressRead, AddressUpdate

# In the document's examples: what its POST made, and nothing needs.
MadeId = Annotated[int, path_id(2)]


class AddressController(Controller):
    tags = ["addresses"]

    @get(
        "/users/{user_id:int}/addresses",
        summary="A page of a user's addresses",
        responses=error_responses(404, 422),
    )
    async def list(
        self, addresses: Addresses, user_id: PathId, count: Count = 10, page: Page = 1
    ) -> AddressList:
        return await addresses.list(user_id, count, page)

    @post(
        "/users/{user_id:int}/addresses",
        summary="Add an address to a user",
        responses=error_responses(400, 404, 413, 415, 422),
    )
    async def create(
        self, once: ExactlyOnce, user_id: PathId, data: JSONBody[AddressCreate]
    ) -> Response[AddressRead]:
        body = await once(lambda uow: uow.addresses.create(user_id, data))
        return as_json_of(AddressRead, body)

    @get(
        "/addresses/{address_id:int}",
        summary="One address",
        responses=error_responses(304, 404, 422),
    )
    async def read(
        self, addresses: Addresses, address_id: PathId, if_none_match: IfNoneMatch = None
    ) -> Response[AddressRead]:
        return not_modified_or(
            if_none_match, AddressRead, json_of(await addresses.read(address_id))
        )

    @put(
        "/addresses/{address_id:int}",
        summary="Change some fields of an address",
        responses=error_responses(400, 404, 412, 413, 415, 422),
    )
    async def update(
        self,
        addresses: Addresses,
        address_id: PathId,
        data: JSONBody[AddressUpdate],
        if_match: IfMatch = None,
    ) -> Response[AddressRead]:
        return as_json_of(
            AddressRead, json_of(await addresses.update(address_id, data, parse_if_match(if_match)))
        )

    @delete(
        "/addresses/{address_id:int}",
        summary="Delete an address that no order needs",
        responses=error_responses(404, 409, 422),
    )
    async def delete(self, addresses: Addresses, address_id: MadeId) -> None:
        await addresses.delete(address_id)
