"""Send five sample products and three sample orders to the queues, or load your own data.

The messages of your own data get their ids from sku and external_id, and the service applies a
message id once. So an interrupted load continues when the same command is run again.
"""

import argparse
import asyncio
import json
import logging
import re
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.client.api import Api
from app.client.errors import CliError
from app.client.files import SCHEMAS, AddressRow, OrderRow, ProductRow, Survey, rows_of
from app.client.sender import Sender
from app.client.stack import running_stack
from app.errors import Unavailable
from app.messaging.broker import Outgoing
from app.schemas.addresses import AddressCreate
from app.schemas.messages import ID_REUSED, MessageRead, MessageStatus, Queue
from app.schemas.orders import OrderCreate, OrderLine
from app.schemas.products import ProductCreate
from app.schemas.users import UserCreate
from app.settings import Settings, load_settings

SAMPLE_USER = UserCreate(username="sample_user", email="sample_user@example.com")
SAMPLE_ADDRESS = AddressCreate(street="Obere Str. 57", city="Berlin", country="Germany")
SAMPLE_PRODUCTS = {"Tea": "9.90", "Coffee": "14.50", "Teapot": "39.00", "Cup": "6.25", "Honey": "7"}
SAMPLE_ORDERS = ({"Tea": 2, "Teapot": 1}, {"Coffee": 3}, {"Tea": 1, "Cup": 4, "Honey": 2})
# The outcome of a row whose message id has come before with another content.
CHANGED = "dead (changed since it was loaded)"
console = Console(markup=False, highlight=False)


def outgoing(queue: Queue, message_id: str, body: BaseModel) -> Outgoing:
    return Outgoing(queue, body.model_dump_json(exclude_none=True).encode(), message_id)


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
        address_id, _ = await self._api.address(user_id, SAMPLE_ADDRESS)
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


def message_id_of(queue: Queue, key: str) -> str:
    """Keys that are too long or unusual for a header or a path are replaced by their hash."""
    plain = re.fullmatch(r"[\w.-]{1,64}", key, re.ASCII)
    return f"load:{queue}:{key if plain else sha256(key.encode()).hexdigest()}"


class Load:
    """Raises CliError, before anything is sent, if a file has a bad line."""

    def __init__(self, files: Mapping[str, Path], api: Api, sender: Sender) -> None:
        self._files = files
        self._survey = Survey(files)
        self._api = api
        self._sender = sender
        self._began = datetime.now(UTC)
        self._users: dict[str, int] = {}
        self._addresses: dict[str, int] = {}
        self._products: dict[str, int] = {}

    async def run(self) -> bool:
        """True unless a message is dead. Raises CliError if a reply does not come, or if a row
        names a user or product that does not exist."""
        tally = {name: Counter[str]() for name in self._files}
        loads = (self._load_users, self._load_addresses, self._load_products, self._load_orders)
        with Progress(console=console) as progress:
            tasks = {n: progress.add_task(n, total=t) for n, t in self._survey.totals.items()}
            for load, (name, task) in zip(loads, tasks.items(), strict=True):
                async for outcome in load():
                    tally[name][outcome] += 1
                    progress.advance(task)
        for name, counts in tally.items():
            found = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
            console.print(f"{name:10} {found or 'none'}")
        if any(CHANGED in counts for counts in tally.values()):
            console.print(
                "Rows that changed since they were loaded are not loaded again. Change products and "
                "orders over HTTP, or with messages to product_update and order_update."
            )
        return not any("dead" in outcome for counts in tally.values() for outcome in counts)

    async def _load_users(self) -> AsyncIterator[str]:
        names = self._survey.usernames.keys()
        self._users = await self._api.ids("users", lambda user: user["username"].lower(), names)
        for place, row in rows_of(self._files["users"], UserCreate):
            if (name := row.username.lower()) in self._users:
                yield "already there"
            else:
                self._users[name] = await self._api.post("/users", row, place)
                yield "created"
        _require("user", self._survey.usernames, self._users)

    async def _load_addresses(self) -> AsyncIterator[str]:
        for _, row in rows_of(self._files["addresses"], AddressRow):
            user = row.username.lower()
            body = AddressCreate.model_validate(row.model_dump(exclude={"username"}))
            address_id, is_new = await self._api.address(self._users[user], body)
            self._addresses.setdefault(user, address_id)
            yield "created" if is_new else "already there"
        for user in self._survey.usernames.keys() - self._addresses.keys():
            if address := await self._api.first_address(self._users[user]):
                self._addresses[user] = address

    async def _load_products(self) -> AsyncIterator[str]:
        rows = (row for _, row in rows_of(self._files["products"], ProductRow))
        messages = (outgoing(Queue.PRODUCT, message_id_of(Queue.PRODUCT, r.sku), r) for r in rows)
        async for message, outcome in self._sender.outcomes(messages):
            yield self._judge(message, outcome)
            if outcome and outcome.result_id:
                self._products[json.loads(message.body)["sku"]] = outcome.result_id
        others = self._survey.skus.keys() - self._products.keys()
        self._products |= await self._api.ids("products", lambda product: product["sku"], others)
        _require("product", self._survey.skus, self._products)

    async def _load_orders(self) -> AsyncIterator[str]:
        async for message, outcome in self._sender.outcomes(self._orders()):
            yield self._judge(message, outcome)

    def _orders(self) -> Iterator[Outgoing]:
        ids = self._products
        for place, row in rows_of(self._files["orders"], OrderRow):
            user = row.username.lower()
            if user not in self._addresses:
                raise CliError(f"{place}: user {user} has no address")
            items = [OrderLine(product_id=ids[i.sku], quantity=i.quantity) for i in row.items]
            order = OrderCreate(
                user_id=self._users[user],
                delivery_address_id=self._addresses[user],
                items=items,
                ordered_at=row.ordered_at,
                external_id=row.external_id,
            )
            yield outgoing(Queue.ORDER, message_id_of(Queue.ORDER, row.external_id), order)

    def _judge(self, message: Outgoing, outcome: MessageRead | None) -> str:
        if outcome is None:
            raise CliError(
                f"no reply to {message.message_id}: is a worker running? Nothing is lost: the "
                "messages stay in the queue, and the same command continues from there"
            )
        if outcome.reason == ID_REUSED:
            return CHANGED
        if outcome.status is not MessageStatus.APPLIED:
            return f"{outcome.status} ({outcome.reason})"
        finished = (outcome.finished_at or outcome.first_seen_at).replace(tzinfo=UTC)
        return "created" if finished >= self._began else "already there"


def _require(what: str, places: Mapping[str, str], ids: Mapping[str, int]) -> None:
    for name, place in places.items():
        if name not in ids:
            raise CliError(f"{place}: {what} {name} is neither in the files nor in the service")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="load DIR/users.jsonl, addresses.jsonl, products.jsonl and orders.jsonl",
    )
    parser.add_argument(
        "--products", type=Path, metavar="FILE", help="in place of DIR/products.jsonl"
    )
    parser.add_argument("--orders", type=Path, metavar="FILE", help="in place of DIR/orders.jsonl")
    chosen = parser.parse_args()
    if chosen.data is None and (chosen.products or chosen.orders):
        parser.error("--products and --orders need --data")
    return chosen


async def run(chosen: argparse.Namespace, settings: Settings) -> bool:
    settings = running_stack(settings)
    async with Api.open(settings) as api, Sender.open(settings, api) as sender:
        if chosen.data is None:
            return await Samples(settings, api, sender).send()
        files = {name: vars(chosen).get(name) or chosen.data / f"{name}.jsonl" for name in SCHEMAS}
        return await Load(files, api, sender).run()


def main() -> None:
    chosen, settings = _arguments(), load_settings()
    logging.disable()  # the libraries log at length what our one line says
    try:
        # Not asyncio.run: it would wait for aiormq's tasks, which never end if RabbitMQ is frozen.
        complete = asyncio.new_event_loop().run_until_complete(run(chosen, settings))
    except (CliError, Unavailable) as error:
        unset = isinstance(error, Unavailable) and not settings.has_rabbitmq
        hint = "; or start the service with `python main.py`" if unset else ""
        print(f"producer: {error}{hint}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if complete else "producer: not everything was applied")


if __name__ == "__main__":
    main()
