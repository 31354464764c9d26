"""The mixed load: customers over HTTP, and messages of every kind."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any
from uuid import uuid4

from app.queues import Queue
from tests.faults import illnesses
from tests.faults.keepalive import KeepAlive
from tests.faults.load import Key, make_product, make_user
from tests.faults.soak.customers import Customers
from tests.faults.soak.deployment import Deployment
from tests.faults.soak.senders import Senders

_KEYS_OF_A_KIND = 3
BY_MESSAGE = "Tea that came by a message"
_NOBODY = 2_000_000_000
_PAUSE_SECONDS = 0.04

# A queue, a body, and the outcomes that are allowed.
Draft = tuple[Queue, Any, set[str]]


class Market:
    def __init__(self, customers: Customers, senders: Senders) -> None:
        self.customers = customers
        self.senders = senders
        self._drafts: list[Callable[[], Draft]] = [
            *(self._order,) * 8,
            *(self._step,) * 3,
            *(self._change,) * 3,
            *(self._product, self._poison, self._rejected),
        ]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[list["asyncio.Task[None]"]]:
        """Runs the load until the context ends. `all_sent` then waits until the last message is
        sent."""
        customers = self.customers
        acts = [
            *[(customers.read, 0.01)] * 3,
            *[(customers.describe, 0.08)] * 2,
            *[(customers.buy, 0.1)] * 2,
            *[(self._describe_by_message, 0.2)] * 2,
            *((customers.cancel, 0.3), (customers.sign_up, 0.5), (customers.browse, 0.3)),
            (customers.report, 1.5),
        ]
        tasks = [asyncio.create_task(customers.repeat(act, pause)) for act, pause in acts]
        tasks.append(asyncio.create_task(self._submit_messages()))
        sending = [asyncio.create_task(self.senders.send()) for _ in range(2)]
        try:
            yield tasks + sending
        finally:
            await illnesses.end(*tasks)
            self.senders.finish()
            self._sending = sending

    async def all_sent(self) -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*self._sending)

    async def _describe_by_message(self, client: KeepAlive) -> None:
        await self.customers.describe_by_message(client, self.senders)

    async def _submit_messages(self) -> None:
        while True:
            queue, body, expected = random.choice(self._drafts)()
            self.senders.submit(queue, uuid4().hex, body, expected)
            await asyncio.sleep(random.uniform(0, 2 * _PAUSE_SECONDS))

    def _order(self) -> Draft:
        product = random.choice([key for key in self.customers.keys if key.sold])
        return Queue.ORDER, self.customers.order(product.id), {"applied"}

    def _step(self) -> Draft:
        order_id = self.customers.any_open_order()
        if order_id is None:
            return self._order()
        status = random.choice(("cancelled", "processing"))
        body = {"order_id": order_id, "status": status}
        return Queue.ORDER_UPDATE, body, {"applied", "rejected"}

    def _change(self) -> Draft:
        body = {"product_id": random.choice(self.customers.goods)}
        changes = ({"price": "7.50"}, {"stock_quantity": random.randint(0, 50)})
        return Queue.PRODUCT_UPDATE, body | random.choice(changes), {"applied"}

    def _product(self) -> Draft:
        return Queue.PRODUCT, {"name": BY_MESSAGE, "price": "5", "stock_quantity": 5}, {"applied"}

    def _poison(self) -> Draft:
        return Queue.PRODUCT, random.choice((b"{", {"name": "Tea"}, [])), {"dead"}

    def _rejected(self) -> Draft:
        body = {"order_id": _NOBODY, "status": "cancelled"}
        return Queue.ORDER_UPDATE, body, {"rejected"}


async def opened(deployment: Deployment) -> Market:
    """A market with users, products and a customer, created through the API."""
    port = deployment.service.port
    with closing(KeepAlive(port)) as client:
        keys = [await make_user(client) for _ in range(_KEYS_OF_A_KIND)]
        keys += [await make_product(client) for _ in range(_KEYS_OF_A_KIND)]
        goods = [(await make_product(client, stock=30)).id for _ in range(_KEYS_OF_A_KIND)]
        buyer = await _make_buyer(client, keys[0])
    return Market(Customers(port, keys, goods, buyer), Senders(deployment))


async def _make_buyer(client: KeepAlive, user: Key) -> dict[str, int]:
    address = {"street": "Obere Str. 57", "city": "Berlin", "country": "Germany"}
    made = await client.send("POST", f"{user.path}/addresses", address)
    return {"user_id": user.id, "delivery_address_id": made.json["id"]}
