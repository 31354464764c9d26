"""The plans of a batch, which PostgreSQL keeps, read no whole table."""

from collections.abc import Sequence
from functools import partial

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


async def test_plans_made_for_empty_tables_read_no_whole_table(
    container: Container, shop: Shop, database_url: str
) -> None:
    body = OrderCreate.model_validate(shop.order_body((await shop.product(), 1)))
    async with connected(database_url) as connection:
        await connection.execute("VACUUM ANALYZE")
        for number in range(RUNS):
            await _apply(container, body, f"order-{number}")
        await connection.execute(_FILL)
    assert await _apply(container, body, "last") == {}


async def _apply(container: Container, body: OrderCreate, message_id: str) -> dict[str, int]:
    """What one batch reads from whole tables."""
    key = MessageKey(Queue.ORDER, message_id, fingerprint(b"{}"))
    async with container.unit_of_work() as uow:
        assert await uow.messages.apply_all([key], partial(_place, uow, body))
        # pylint: disable-next=protected-access
        rows = (await uow._connection.execute(_READ)).all()
    # That one has one row.
    return {row.relname: row.seq_tup_read for row in rows if row.relname != "cache_server"}


async def _place(uow: UnitOfWork, body: OrderCreate, _: Sequence[str]) -> Sequence[int | Refusal]:
    return await place_orders(uow, [body])
