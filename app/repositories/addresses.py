from app.models.addresses import Address
from app.repositories.entities import EntityRepository
from app.repositories.pages import Listing, Page
from app.schemas.pages import PageRequest

_LIST = Listing(Address, filters={"user_id": "user_id = :user_id"}, sorts={})


class AddressRepository(EntityRepository[Address], model=Address):
    async def page(self, user_id: int, wanted: PageRequest) -> Page[Address]:
        return await _LIST.page(self._connection, {"user_id": user_id}, wanted)
