"""The samples that producer.py sends."""

import secrets
from collections.abc import Iterable, Iterator, Mapping

from rich.table import Table

from app.client.api import AddressBook, Api
from app.client.console import console
from app.client.sender import Sender, outgoing
from app.messaging.broker import Outgoing
from app.queues import Queue
from app.schemas.addresses import AddressCreate
from app.schemas.orders import OrderCreate, OrderLine
from app.schemas.products import ProductCreate
from app.schemas.users import UserCreate
from app.settings import Settings

SAMPLE_USER = UserCreate(username="sample_user", email="sample_user@example.com")
SAMPLE_ADDRESS = AddressCreate(street="Obere Str. 57", city="Berlin", country="Germany")
SAMPLE_PRODUCTS = {"Tea": "9.90", "Coffee": "14.50", "Teapot": "39.00", "Cup": "6.25", "Honey": "7"}
SAMPLE_ORDERS = ({"Tea": 2, "Teapot": 1}, {"Coffee": 3}, {"Tea": 1, "Cup": 4, "Honey": 2})


class Samples:
    """Five new products in every run, and three orders for them."""

    def __init__(self, settings: Settings, api: Api, sender: Sender) -> None:
        self._settings = settings
        self._api = api
        self._sender = sender
        self._run = secrets.token_hex(4)
        self._table = Table("queue", "message id", "outcome", "result")

    async def send(self) -> bool:
        """True if all messages were applied."""
        user_id = self._settings.test_user_id or await self._user()
        address_id = self._settings.test_delivery_address_id or await self._address(user_id)
        ids = await self._exchange(self._products())
        if len(ids) == len(SAMPLE_PRODUCTS):
            products = dict(zip(SAMPLE_PRODUCTS, ids, strict=True))
            ids += await self._exchange(self._orders(user_id, address_id, products))
        console.print(self._table)
        return len(ids) == len(SAMPLE_PRODUCTS) + len(SAMPLE_ORDERS)

    async def _user(self) -> int:
        if await self._api.get("/users/1"):
            return 1
        name = SAMPLE_USER.username
        found = await self._api.ids("users", lambda user: user["username"].lower(), {name})
        user_id = found.get(name) or await self._api.post("/users", SAMPLE_USER)
        console.print(f"There is no user 1: the orders are placed by sample user {user_id}.")
        return user_id

    async def _address(self, user_id: int) -> int:
        if (await self._api.get("/addresses/1")).get("user_id") == user_id:
            return 1
        address_id, _ = await AddressBook(self._api).add(user_id, SAMPLE_ADDRESS)
        console.print(f"User {user_id} has no address 1: sample address {address_id} is used.")
        return address_id

    def _products(self) -> Iterator[Outgoing]:
        for name, price in SAMPLE_PRODUCTS.items():
            sku = f"{name.upper()}-{self._run}"
            product = ProductCreate(sku=sku, name=name, price=price, stock_quantity=100)
            yield outgoing(Queue.PRODUCT, f"sample:product:{sku}", product)

    def _orders(self, user_id: int, address_id: int, ids: Mapping[str, int]) -> Iterator[Outgoing]:
        for number, lines in enumerate(SAMPLE_ORDERS, 1):
            items = [OrderLine(product_id=ids[name], quantity=lines[name]) for name in lines]
            order = OrderCreate(user_id=user_id, delivery_address_id=address_id, items=items)
            yield outgoing(Queue.ORDER, f"sample:order:{self._run}-{number}", order)

    async def _exchange(self, messages: Iterable[Outgoing]) -> list[int]:
        """The ids that the applied messages made, in the order of the messages."""
        ids = []
        async for message, outcome in self._sender.outcomes(messages):
            status, result = "no reply yet", ""
            if outcome:
                status, result = outcome.status.value, outcome.detail or ""
            if outcome and outcome.result_id:
                ids.append(outcome.result_id)
                result = f"{message.queue} {outcome.result_id}"
            self._table.add_row(message.queue, message.message_id, status, result)
        return ids
