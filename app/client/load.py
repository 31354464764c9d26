"""Loads users, addresses, products and orders from files. The messages get their ids from sku and
external_id, and the service applies a message id once. So an interrupted load continues when it is
run again."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Set
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from rich.progress import Progress

from app.client.api import CONNECTIONS, AddressBook, Api
from app.client.console import console
from app.client.errors import CliError
from app.client.files import AddressRow, OrderRow, ProductRow, Survey, rows_of
from app.client.in_order import in_order
from app.client.sender import Sender, outgoing
from app.messaging.broker import Outgoing
from app.queues import Queue
from app.schemas.addresses import AddressCreate
from app.schemas.messages import ID_REUSED, MessageRead, MessageStatus
from app.schemas.orders import OrderCreate, OrderLine
from app.schemas.users import UserCreate

# The outcome of a row whose message id has come before with another content.
CHANGED = "dead (changed since it was loaded)"


def message_id_of(queue: Queue, key: str) -> str:
    """Keys that are too long or unusual for a header or a path are replaced by their hash."""
    plain = re.fullmatch(r"[\w.-]{1,64}", key, re.ASCII)
    return f"load:{queue}:{key if plain else sha256(key.encode()).hexdigest()}"


class Load:
    """Raises CliError, before anything is sent, if a file has a bad line."""

    def __init__(self, files: Mapping[str, Path], api: Api) -> None:
        self._files = files
        self._survey = Survey(files)
        self._api = api
        self._began = datetime.now(UTC)
        self._book = AddressBook(api)
        self._users: dict[str, int] = {}
        self._addresses: dict[str, int] = {}
        self._products: dict[str, int] = {}

    @property
    def needs_queues(self) -> bool:
        """Not for users and addresses alone."""
        return bool(self._survey.totals["products"] or self._survey.totals["orders"])

    async def run(self, sender: Sender | None) -> bool:
        """True unless a message is dead. Raises CliError if a reply does not come, or if a row
        names a user or product that does not exist."""
        tally = {name: Counter[str]() for name in self._files}
        loads = {"users": self._load_users(), "addresses": self._load_addresses()}
        if sender:
            loads |= {
                "products": self._load_products(sender),
                "orders": self._load_orders(sender),
            }
        with Progress(console=console) as progress:
            tasks = {n: progress.add_task(n, total=t) for n, t in self._survey.totals.items()}
            for name, outcomes in loads.items():
                async for outcome in outcomes:
                    tally[name][outcome] += 1
                    progress.advance(tasks[name])
        for name, counts in tally.items():
            found = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
            console.print(f"{name:10} {found or 'none'}")
        if any(CHANGED in counts for counts in tally.values()):
            console.print(
                "Rows that changed since they were loaded are not loaded again. Change products "
                "and orders over HTTP, or with messages to product_update and order_update."
            )
        return not any("dead" in outcome for counts in tally.values() for outcome in counts)

    async def _load_users(self) -> AsyncIterator[str]:
        names = self._survey.usernames.keys()
        self._users = await self._api.ids("users", lambda user: user["username"].lower(), names)
        begun = set(self._users)

        async def add(place: str, row: UserCreate) -> str:
            if (name := row.username.lower()) in begun:
                return "already there"
            begun.add(name)  # an earlier line may differ in case alone, and be on its way
            self._users[name] = await self._api.post("/users", row, place)
            self._book.note_new_user(self._users[name])
            return "created"

        rows = rows_of(self._files["users"], UserCreate)
        async for outcome in in_order(add, rows, CONNECTIONS):
            yield outcome
        _require("user", self._survey.usernames, self._users)

    async def _load_addresses(self) -> AsyncIterator[str]:
        async def add(_: str, row: AddressRow) -> tuple[str, int, bool]:
            user = row.username.lower()
            body = AddressCreate.model_validate(row.model_dump(exclude={"username"}))
            return user, *await self._book.add(self._users[user], body)

        rows = rows_of(self._files["addresses"], AddressRow)
        async for user, address_id, is_new in in_order(add, rows, CONNECTIONS):
            self._addresses.setdefault(user, address_id)
            yield "created" if is_new else "already there"
        await self._find_addresses(self._survey.usernames.keys() - self._addresses.keys())

    async def _find_addresses(self, users: Set[str]) -> None:
        """For those who are in the service already, with an address that is in no file."""

        async def first(user: str) -> tuple[str, int | None]:
            return user, await self._api.first_address(self._users[user])

        async for user, address_id in in_order(first, zip(users), CONNECTIONS):
            if address_id:
                self._addresses[user] = address_id

    async def _load_products(self, sender: Sender) -> AsyncIterator[str]:
        rows = (row for _, row in rows_of(self._files["products"], ProductRow))
        messages = (outgoing(Queue.PRODUCT, message_id_of(Queue.PRODUCT, r.sku), r) for r in rows)
        async for message, outcome in sender.outcomes(messages):
            yield self._judge(message, outcome)
            if outcome and outcome.result_id:
                self._products[json.loads(message.body)["sku"]] = outcome.result_id
        others = self._survey.skus.keys() - self._products.keys()
        self._products |= await self._api.ids("products", lambda product: product["sku"], others)
        _require("product", self._survey.skus, self._products)

    async def _load_orders(self, sender: Sender) -> AsyncIterator[str]:
        async for message, outcome in sender.outcomes(self._orders()):
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
