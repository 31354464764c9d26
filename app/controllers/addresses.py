from litestar import Controller, delete, get, post, put

from app.controllers.dependencies import Addresses
from app.controllers.errors import documented
from app.controllers.parameters import Count, Page, PathId
from app.schemas.addresses import AddressCreate, AddressList, AddressRead, AddressUpdate


class AddressController(Controller):
    tags = ["addresses"]

    @get(
        "/users/{user_id:int}/addresses",
        summary="A page of a user's addresses",
        responses=documented(404, 422),
    )
    async def list(
        self, addresses: Addresses, user_id: PathId, count: Count = 10, page: Page = 1
    ) -> AddressList:
        return await addresses.list(user_id, count, page)

    @post(
        "/users/{user_id:int}/addresses",
        summary="Add an address to a user",
        responses=documented(400, 404, 413, 415, 422),
    )
    async def create(
        self, addresses: Addresses, user_id: PathId, data: AddressCreate
    ) -> AddressRead:
        return await addresses.create(user_id, data)

    @get("/addresses/{address_id:int}", summary="One address", responses=documented(404, 422))
    async def read(self, addresses: Addresses, address_id: PathId) -> AddressRead:
        return await addresses.read(address_id)

    @put(
        "/addresses/{address_id:int}",
        summary="Change some fields of an address",
        responses=documented(400, 404, 413, 415, 422),
    )
    async def update(
        self, addresses: Addresses, address_id: PathId, data: AddressUpdate
    ) -> AddressRead:
        return await addresses.update(address_id, data)

    @delete(
        "/addresses/{address_id:int}",
        summary="Delete an address that no order needs",
        responses=documented(404, 409, 422),
    )
    async def delete(self, addresses: Addresses, address_id: PathId) -> None:
        await addresses.delete(address_id)
