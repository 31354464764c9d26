"""`find`: what a word from a log line, a message or a customer names."""

from collections.abc import AsyncIterator

from app.cli.configured import failures_in_one_line, with_database
from app.database import Connection, Database
from app.models.messages import Message
from app.models.orders import Order
from app.models.products import Product
from app.models.users import User
from app.queues import Queue
from app.repositories.messages import MessageRepository
from app.repositories.orders import OrderRepository
from app.repositories.products import ProductRepository
from app.repositories.users import UserRepository
from app.schemas.messages import MessageFilters
from app.schemas.pages import PageRequest
from app.schemas.types import ID_MAX, to_nfc
from app.services.users import username_key
from app.settings import Settings

SOME = PageRequest(count=10)


async def run(settings: Settings, word: str) -> None:
    """Raises SystemExit with one line, also if nothing is found."""
    with failures_in_one_line("find"):
        database = Database(with_database(settings).postgresql_address, pool_size=1)
        try:
            async with database.autocommit() as connection:
                found = [line async for line in _find(connection, word)]
        finally:
            await database.close()
    print("\n".join(found), end="\n" if found else "")
    if not found:
        raise SystemExit(
            f"find: {word} is no id or external_id of an order, id of a message, id, username or "
            "e-mail of a user, nor id or sku of a product"
        )


async def _find(connection: Connection, word: str) -> AsyncIterator[str]:
    # A word that is not UTF-8 is in no table.
    text = to_nfc(word.encode(errors="replace").decode())
    if text.isdecimal() and 0 < int(text) <= ID_MAX:
        async for line in _by_id(connection, int(text)):
            yield line
    async for line in _by_text(connection, text):
        yield line
    messages = await MessageRepository(connection).page(MessageFilters(id=text), 10, None)
    for message in messages.rows:
        yield _message(message)


async def _by_id(connection: Connection, id: int) -> AsyncIterator[str]:
    if order := await OrderRepository(connection).find(id):
        yield _order(Order(**order), "id")
    for product in await ProductRepository(connection).find([id]):
        yield _product(product, "id")
    for user in await UserRepository(connection).find([id]):
        yield _user(user, "id")


async def _by_text(connection: Connection, text: str) -> AsyncIterator[str]:
    orders, products = OrderRepository(connection), ProductRepository(connection)
    users = UserRepository(connection)
    for order in (await orders.page({"external_id": text}, SOME)).rows:
        yield _order(order, "external_id")
    for product in (await products.page({"sku": text}, SOME)).rows:
        yield _product(product, "sku")
    for user in (await users.page({"username": username_key(text)}, SOME)).rows:
        yield _user(user, "username")
    for user in (await users.page({"email": text}, SOME)).rows:
        yield _user(user, "e-mail")


def _order(order: Order, by: str) -> str:
    named = f", external_id {order.external_id}" if order.external_id else ""
    when = f"{order.ordered_at:%Y-%m-%d %H:%M:%S}"
    return f"order {order.id} (by {by}): {order.status}, of user {order.user_id}, {when}{named}"


def _product(product: Product, by: str) -> str:
    named = f", sku {product.sku}" if product.sku else ""
    stock = f"{product.stock_quantity} in stock at {product.price}"
    return f"product {product.id} (by {by}): {product.name!r}, {stock}{named}"


def _user(user: User, by: str) -> str:
    return f"user {user.id} (by {by}): {user.username}, {user.email}"


def _message(message: Message) -> str:
    made = "order" if message.queue in (Queue.ORDER, Queue.ORDER_UPDATE) else "product"
    outcome = f": {made} {message.result_id}" if message.result_id else ""
    outcome = f": {message.reason}, {message.detail}" if message.reason else outcome
    when = f"first seen {message.first_seen_at:%Y-%m-%d %H:%M:%S}"
    return (
        f"message {message.message_id} of queue {message.queue}, {when}, {message.status}{outcome}"
    )
