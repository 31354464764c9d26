from app.errors import NotFound
from app.repositories.addresses import AddressRepository
from app.repositories.users import UserRepository
from app.schemas.addresses import AddressCreate, AddressList, AddressRead, AddressUpdate
from app.schemas.pages import PageRequest
from app.services.preconditions import Precondition


class AddressService:
    """Raises NotFound for an unknown address or user."""

    def __init__(self, addresses: AddressRepository, users: UserRepository) -> None:
        self._addresses = addresses
        self._users = users

    async def list(self, user_id: int, wanted: PageRequest) -> AddressList:
        if not await self._users.exists(user_id):
            raise NotFound("user", user_id)
        found = await self._addresses.page(user_id, wanted)
        rows = [AddressRead.of(row) for row in found.rows]
        return AddressList(addresses=rows, total=found.total, next=found.next)

    async def create(self, user_id: int, body: AddressCreate) -> AddressRead:
        added = await self._addresses.add_to(user_id, body.model_dump())
        if added is None:
            raise NotFound("user", user_id)
        return AddressRead.of(added)

    async def read(self, address_id: int) -> AddressRead:
        found = await self._addresses.find([address_id])
        if not found:
            raise NotFound("address", address_id)
        return AddressRead.of(found[0])

    async def update(
        self, address_id: int, body: AddressUpdate, precondition: Precondition | None = None
    ) -> AddressRead:
        """Raises VersionMismatch if the precondition does not hold."""
        if precondition and (current := await self._addresses.lock(address_id)):
            precondition.require(AddressRead.of(current))
        address = await self._addresses.change(address_id, body.model_dump(exclude_unset=True))
        if address is None:
            raise NotFound("address", address_id)
        return AddressRead.of(address)

    async def delete(self, address_id: int) -> None:
        """Raises StillNeeded while an order goes to this address."""
        if not await self._addresses.remove(address_id):
            raise NotFound("address", address_id)
