"""A shop with one customer: rows to start from, and shortcuts to change and to read them."""

import itertools
from typing import Any

from app.container import Container
from app.schemas.addresses import AddressCreate
from app.schemas.orders import OrderCreate, OrderDetail, OrderStatus
from app.schemas.products import ProductCreate, ProductRead
from app.schemas.users import UserCreate
from app.services.products import PRODUCT

_numbers = itertools.count(1)


class Shop:
    def __init__(self, container: Container, user_id: int, address_id: int) -> None:
        self._container = container
        self.user_id = user_id
        self.address_id = address_id

    @classmethod
    async def opened(cls, container: Container) -> "Shop":
        user_id = await _add_user(container)
        async with container.unit_of_work() as uow:
            address = AddressCreate(street="Obere Str. 57", city="Berlin", country="Germany")
            return cls(container, user_id, (await uow.addresses.create(user_id, address)).id)

    async def user(self) -> int:
        """Add one more user, without an address, and return the id."""
        return await _add_user(self._container)

    async def product(self, stock: int = 100, price: str = "10.00", **more: Any) -> int:
        fields = {"name": "Green tea", "price": price, "stock_quantity": stock, **more}
        async with self._container.unit_of_work() as uow:
            return (await uow.products.create(ProductCreate.model_validate(fields))).id

    def order_body(self, *lines: tuple[int, int], **fields: Any) -> dict[str, Any]:
        """`lines` are pairs of a product's id and a quantity."""
        return {
            "user_id": self.user_id,
            "delivery_address_id": self.address_id,
            "items": [{"product_id": id, "quantity": quantity} for id, quantity in lines],
            **fields,
        }

    async def order(self, *lines: tuple[int, int], **fields: Any) -> OrderDetail:
        body = OrderCreate.model_validate(self.order_body(*lines, **fields))
        async with self._container.unit_of_work() as uow:
            return await uow.orders.place(body)

    async def change_status(self, order_id: int, *steps: OrderStatus) -> None:
        for status in steps:
            async with self._container.unit_of_work() as uow:
                await uow.orders.change_status(order_id, status)

    async def read_product(self, product_id: int) -> ProductRead:
        row = await self._container.caches[PRODUCT].read(product_id)
        return ProductRead.model_validate_json(row)

    async def stock(self, product_id: int) -> int:
        return (await self.read_product(product_id)).stock_quantity


async def _add_user(container: Container) -> int:
    name = f"user{next(_numbers)}"
    async with container.unit_of_work() as uow:
        return (await uow.users.create(UserCreate(username=name, email=f"{name}@example.com"))).id
