"""What the customers do over HTTP, and what was acknowledged to them."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from app.queues import Queue
from tests.faults.keepalive import KeepAlive, Lost, Response
from tests.faults.load import Key, Tally
from tests.faults.soak.senders import Senders

_LIMIT = 6.0  # a response that takes longer counts as lost
_AGAIN_SECONDS = 0.2
_REPEATED = 0.2
_REUSED = 0.5
REUSED_ID = "a product that a reused message id has renamed"

Act = Callable[[KeepAlive], Awaitable[None]]


def yesterday() -> str:
    return str((datetime.now(UTC) - timedelta(days=1)).date())


class Customers:
    """Only `keys` get versioned writes; orders of `goods` may be cancelled, and `goods` run out."""

    def __init__(self, port: int, keys: list[Key], goods: list[int], buyer: dict[str, int]) -> None:
        self.port = port
        self.keys = keys
        self.goods = goods
        self.buyer = buyer
        self.tally = Tally()
        self.statuses: Counter[str] = Counter()
        self.violations: list[str] = []
        self.placed: dict[str, int] = {}
        self.cancelled: set[int] = set()
        self.users: set[int] = set()
        self._open: deque[int] = deque(maxlen=200)

    async def repeat(self, act: Act, pause: float) -> None:
        """Repeats the act forever, with an average pause of `pause` seconds between responses."""
        with closing(KeepAlive(self.port, _LIMIT)) as client:
            while True:
                try:
                    await act(client)
                except Lost:
                    self.statuses["lost"] += 1
                    await asyncio.sleep(_AGAIN_SECONDS)
                await asyncio.sleep(random.uniform(0, 2 * pause))

    async def read(self, client: KeepAlive) -> None:
        key = random.choice(self.keys)
        floors = key.described.floor, key.sold.floor if key.sold else 0
        self.tally.saw(key, floors, self._checked(await client.get(key.path), {200}, key.path))

    async def browse(self, client: KeepAlive) -> None:
        path = random.choice(("/users", "/products?page=2", "/orders?status=pending", "/report"))
        self._checked(await client.get(path), {200}, path)

    async def describe(self, client: KeepAlive) -> None:
        key = random.choice(self.keys)
        version = key.described.begin()
        response = await client.send("PUT", key.path, {"description": str(version)})
        if self.tally.wrote(self._checked(response, {200}, key.path)):
            key.described.acknowledge(version)

    async def describe_by_message(self, client: KeepAlive, senders: Senders) -> None:
        """The time of the ack is unknown, but /messages shows that the message is committed."""
        key = random.choice([key for key in self.keys if key.sold])
        version, message_id = key.described.begin(), uuid4().hex
        body = {"product_id": key.id, "description": str(version)}
        senders.submit(Queue.PRODUCT_UPDATE, message_id, body, {"applied"})
        path = f"/messages/{message_id}"
        while (await self._insist(client, "GET", path, None, {200, 404})).status == 404:
            await asyncio.sleep(_AGAIN_SECONDS)
        key.described.lose(version)
        if random.random() < _REUSED:
            senders.reuse(Queue.PRODUCT_UPDATE, message_id, body | {"name": REUSED_ID})

    async def buy(self, client: KeepAlive) -> None:
        """Repeats the POST under one key until it succeeds, and sometimes once more after that."""
        key = random.choice([key for key in self.keys if key.sold])
        good = random.choice(self.goods) if random.random() < 0.7 else None
        name = uuid4().hex
        body = self.order(key.id if good is None else good) | {"external_id": name}
        response = await self._insist(client, "POST", "/orders", body, {201, 409}, name)
        if response.status != 201:
            return
        self.placed[name] = response.json["id"]
        if good is not None:
            self._open.append(response.json["id"])
        elif key.sold:
            key.sold.acknowledge()
        if random.random() < _REPEATED:
            again = await self._insist(client, "POST", "/orders", body, {201}, name)
            if again.body != response.body:
                self.violations.append(f"a repeat of {name} got a different response")

    def order(self, product_id: int) -> dict[str, Any]:
        order = {**self.buyer, "items": [{"product_id": product_id, "quantity": 1}]}
        return order | ({"ordered_at": f"{yesterday()}T12:00:00"} if random.random() < 0.5 else {})

    def any_open_order(self) -> int | None:
        return random.choice(self._open) if self._open else None

    async def cancel(self, client: KeepAlive) -> None:
        if (order_id := self.any_open_order()) is None:
            return
        path, status = f"/orders/{order_id}", {"status": "cancelled"}
        response = self._checked(await client.send("PUT", path, status), {200, 409}, path)
        if response.status == 200:
            self.cancelled.add(order_id)

    async def sign_up(self, client: KeepAlive) -> None:
        name = uuid4().hex
        user = {"username": name, "email": f"{name}@example.com"}
        response = await self._insist(client, "POST", "/users", user, {201}, name)
        self.users.add(response.json["id"])

    async def report(self, client: KeepAlive) -> None:
        path = f"/report?report_date={yesterday()}"
        self._checked(await client.send("POST", path), {200}, path)

    async def _insist(
        self,
        client: KeepAlive,
        method: str,
        path: str,
        body: Any,
        expected: set[int],
        key: str = "",
    ) -> Response:
        """Repeats the request until it gets a response other than 503."""
        headers = {"idempotency_key": key} if key else {}
        while True:
            try:
                response = self._checked(
                    await client.send(method, path, body, **headers), expected, path
                )
            except Lost:
                self.statuses["lost"] += 1
            else:
                if response.status != 503:
                    return response
            await asyncio.sleep(_AGAIN_SECONDS)

    def _checked(self, response: Response, expected: set[int], path: str) -> Response:
        self.statuses[str(response.status)] += 1
        if response.status not in expected | {503}:
            self.violations.append(f"{path}: {response.status} {response.body[:300]!r}")
        return response
