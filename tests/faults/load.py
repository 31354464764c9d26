"""Readers and writers of a few values, and a tally of what they saw."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import Any

from tests.faults.keepalive import KeepAlive, Lost, Response
from tests.faults.ledger import Count, Ledger
from tests.faults.stack import Member, Stack

_STOCK = 1_000_000
_LATE_SECONDS = 0.4  # after this long Redis had not confirmed the deletion


@dataclass
class Key:
    """A cached user or product. Only a product has `sold`."""

    path: str
    described: Ledger = field(default_factory=Ledger)
    sold: Count | None = None

    @property
    def id(self) -> int:
        return int(self.path.rpartition("/")[2])

    @property
    def name(self) -> str:
        """The key in Redis."""
        return f"{'user' if self.sold is None else 'product'}:{self.id}"


@dataclass
class Tally:
    reads: int = 0
    stale: int = 0
    writes: int = 0
    late: int = 0
    hits: int = 0
    longest_hidden: float = 0.0
    slowest_read: float = 0.0
    slowest_write: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        for name in ("reads", "stale", "writes", "late", "hits"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("longest_hidden", "slowest_read", "slowest_write"):
            setattr(self, name, max(getattr(self, name), getattr(other, name)))
        self.failures += other.failures
        self.examples += other.examples

    def saw(self, key: Key, floors: tuple[float, int], response: Response) -> None:
        self.reads += 1
        self.slowest_read = max(self.slowest_read, response.seconds)
        if response.status != 200:
            self.failures[f"GET {response.status}"] += 1
            return
        body = response.json
        version, sold = int(body["description"]), _STOCK - body.get("stock_quantity", _STOCK)
        old, hidden = key.described.judge(version, floors[0], response.began)
        if key.sold is not None:
            too_few, hidden_sale = key.sold.judge(sold, floors[1], response.began)
            old, hidden = old or too_few, max(hidden, hidden_sale)
        self.longest_hidden = max(self.longest_hidden, hidden)
        if old:
            self.stale += 1
            self.examples.append(f"{key.path}: {version}, {sold} sold, {hidden:.3f} s late")

    def wrote(self, response: Response) -> bool:
        """Counts a write; returns whether it was acknowledged."""
        self.writes += 1
        self.slowest_write = max(self.slowest_write, response.seconds)
        self.late += response.seconds > _LATE_SECONDS
        if response.status >= 300:
            self.failures[f"write {response.status}"] += 1
        return response.status < 300


class Load:
    """Requests of many readers and a few writers, which go on until the context ends."""

    def __init__(self, stack: Stack, keys: Sequence[Key], user_id: int, address_id: int) -> None:
        self._stack = stack
        self.keys = keys
        self.quiet_key = keys[0]  # the load never writes it, so it is nearly always cached
        self.address = f"/addresses/{address_id}"
        self.products = [key for key in keys if key.sold is not None]
        self._buyer = {"user_id": user_id, "delivery_address_id": address_id}
        self.tally = Tally()

    @asynccontextmanager
    async def running(self, readers: int = 12, writers: int = 4) -> AsyncIterator[list["_Task"]]:
        reader, writer = self._stack.reader, self._stack.writer
        tasks = [
            *(_forever(self._read, reader if i % 4 else writer, 0) for i in range(readers)),
            *(_forever(self.describe, writer, 0.04) for _ in range(writers)),
            *(_forever(self._buy, writer, 0.1) for _ in range(writers // 2)),
        ]
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, client: KeepAlive) -> None:
        key = random.choice(self.keys)
        floors = key.described.floor, key.sold.floor if key.sold else 0
        self.tally.saw(key, floors, await client.get(key.path))

    async def describe(self, client: KeepAlive) -> None:
        await self.describe_key(client, random.choice(self.keys[1:]))

    async def describe_key(self, client: KeepAlive, key: Key) -> None:
        version = key.described.begin()
        try:
            response = await client.send("PUT", key.path, {"description": str(version)})
        except Lost:
            key.described.lose(version)
            raise
        if self.tally.wrote(response):
            key.described.acknowledge(version)

    async def describe_by(self, send: Callable[[Any], Awaitable[bool]]) -> None:
        """Writes by a message. `send` returns, after the ack, whether the message was applied."""
        key = random.choice(self.products)
        version, began = key.described.begin(), time.monotonic()
        applied = await send({"product_id": key.id, "description": str(version)})
        status = 200 if applied else 500
        if self.tally.wrote(Response(status, b"", began, time.monotonic() - began)):
            key.described.acknowledge(version)

    async def _buy(self, client: KeepAlive) -> None:
        key = random.choice(self.products)
        order = {**self._buyer, "items": [{"product_id": key.id, "quantity": 1}]}
        if self.tally.wrote(await client.send("POST", "/orders", order)) and key.sold:
            key.sold.acknowledge()


_Task = asyncio.Task[None]


def _forever(act: Callable[[KeepAlive], Awaitable[None]], member: Member, pause: float) -> _Task:
    async def loop() -> None:
        with closing(KeepAlive(member.port)) as client:
            while True:
                await act(client)
                if pause:
                    await asyncio.sleep(random.uniform(0, 2 * pause))

    return asyncio.create_task(loop())


async def prepare_load(stack: Stack, keys_of_a_kind: int = 3) -> Load:
    """Creates users, products and a customer through the API."""
    with closing(KeepAlive(stack.writer.port)) as client:
        users = [await make_user(client) for _ in range(keys_of_a_kind)]
        products = [await make_product(client) for _ in range(keys_of_a_kind)]
        address = {"street": "Obere Str. 57", "city": "Berlin", "country": "Germany"}
        made = await client.send("POST", f"{users[0].path}/addresses", address)
    return Load(stack, [*users, *products], users[0].id, made.json["id"])


async def make_user(client: KeepAlive) -> Key:
    name = f"u{time.monotonic_ns()}"
    user = {"username": name, "email": f"{name}@example.com", "description": "0"}
    return Key(f"/users/{(await client.send('POST', '/users', user)).json['id']}")


async def make_product(client: KeepAlive, stock: int = _STOCK) -> Key:
    tea = {"name": "Tea", "price": "5", "description": "0", "stock_quantity": stock}
    made = await client.send("POST", "/products", tea)
    return Key(f"/products/{made.json['id']}", sold=Count())
