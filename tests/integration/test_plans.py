"""The plans of orders, which PostgreSQL keeps, read no whole table."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from app.consumers.handlers import place_orders
from app.container import Container
from app.errors import Refusal
from app.queues import Queue
from app.schemas.messages import MessageKey, fingerprint
from app.schemas.orders import OrderCreate
from app.unit_of_work import UnitOfWork
from harness.databases import connected
from harness.shop import Shop

# PostgreSQL keeps the plan of a statement from its sixth run on.
RUNS = 8
_FILL = """
INSERT INTO messages (message_id, queue, status) SELECT 'old-' || n, 'order', 'applied'
FROM generate_series(1, 1000) n;
INSERT INTO orders (user_id, delivery_address_id) SELECT user_id, id
FROM addresses, generate_series(1, 1000);
INSERT INTO products (name, price, stock_quantity) SELECT 'Tea ' || n, 1, 0
FROM generate_series(1, 1000) n;
"""
# What this transaction has read from tables without an index, checks of foreign keys included.
_READ = text("SELECT relname, seq_tup_read FROM pg_stat_xact_user_tables WHERE seq_tup_read > 0")


Apply = Callable[[UnitOfWork, OrderCreate, str], Awaitable[Any]]


async def _apply_message(uow: UnitOfWork, body: OrderCreate, message_id: str) -> None:
    key = MessageKey(Queue.ORDER, message_id, fingerprint(b"{}"))

    async def place(_: Sequence[str]) -> Sequence[int | Refusal]:
        return await place_orders(uow, [body])

    assert await uow.messages.apply_all([key], place)


async def _place(uow: UnitOfWork, body: OrderCreate, _: str) -> None:
    """As POST /orders does."""
    assert await uow.orders.place(body)


@pytest.mark.parametrize("apply", [_apply_message, _place])
async def test_plans_made_for_empty_tables_read_no_whole_table(
    container: Container, shop: Shop, database_url: str, apply: Apply
) -> None:
    body = OrderCreate.model_validate(shop.order_body((await shop.product(), 1)))
    async with connected(database_url) as connection:
        await connection.execute("VACUUM ANALYZE")
        for number in range(RUNS):
            await _read(container, apply, body, f"order-{number}")
        await connection.execute(_FILL)
    assert await _read(container, apply, body, "last") == {}


async def _read(
    container: Container, apply: Apply, body: OrderCreate, message_id: str
) -> dict[str, int]:
    """What it reads from whole tables."""
    async with container.unit_of_work() as uow:
        await apply(uow, body, message_id)
        # pylint: disable-next=protected-access
        rows = (await uow._connection.execute(_READ)).all()
    # That one has one row.
    return {row.relname: row.seq_tup_read for row in rows if row.relname != "cache_server"}
