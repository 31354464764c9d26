from typing import Any, cast

from sqlalchemy import Text, bindparam, insert, select

from app.models.addresses import Address
from app.models.users import User
from app.repositories.entities import EntityRepository
from app.repositories.pages import Filter, Listing, Page
from app.schemas.addresses import AddressCreate
from app.schemas.pages import PageRequest

_LIST = Listing(Address, filters={"user_id": Filter("user_id = :user_id")}, sorts={})
_FIELDS = [*AddressCreate.model_fields]
_ADD_TO_USER = (
    insert(Address)
    .from_select(
        ["user_id", *_FIELDS],
        select(User.id, *(bindparam(name, type_=Text) for name in _FIELDS)).where(
            User.id == bindparam("owner_id")
        ),
    )
    .returning(*Address.__table__.c)
)


class AddressRepository(EntityRepository[Address], model=Address):
    async def add_to(self, user_id: int, fields: dict[str, Any]) -> Address | None:
        """None if there is no such user."""
        arguments = {"owner_id": user_id, **fields}
        return cast(Address | None, await self._connection.execute_last(_ADD_TO_USER, arguments))

    async def page(self, user_id: int, wanted: PageRequest) -> Page[Address]:
        return await _LIST.page(self._connection, {"user_id": user_id}, wanted)
