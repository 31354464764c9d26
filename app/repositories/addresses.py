from app.models.addresses import Address
from app.repositories.entities import EntityRepository
from app.repositories.pages import Page, page_of
from app.schemas.pages import PageRequest


class AddressRepository(EntityRepository[Address], model=Address):
    async def page(self, user_id: int, wanted: PageRequest) -> Page[Address]:
        return await page_of(self._connection, Address, {"user_id": user_id}, wanted)
