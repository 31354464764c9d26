from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import cast

from sqlalchemy import RowMapping, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.orders import Order, OrderItem
from app.repositories.cursors import Key
from app.repositories.pages import Filter, Listing, Page
from app.schemas.orders import OrderCreate
from app.schemas.pages import PageRequest

# Locks the products in the order of their ids, so that two transactions cannot deadlock on them.
# And before the orders are written, because their foreign keys take share locks on the same rows.
# Without external ids, their subselect reads nothing.
_LOCK = text("""
WITH locked AS MATERIALIZED (
    SELECT id, price, stock_quantity FROM products
    WHERE id = ANY (CAST(:product_ids AS bigint[])) ORDER BY id FOR NO KEY UPDATE
), owners AS (
    SELECT id, user_id FROM addresses WHERE id = ANY (CAST(:address_ids AS bigint[]))
)
SELECT
    ARRAY(SELECT id FROM locked ORDER BY id) AS products,
    ARRAY(SELECT stock_quantity FROM locked ORDER BY id) AS stock,
    ARRAY(SELECT price FROM locked ORDER BY id) AS prices,
    ARRAY(SELECT id FROM owners ORDER BY id) AS addresses,
    ARRAY(SELECT user_id FROM owners ORDER BY id) AS owners,
    ARRAY(SELECT id FROM users WHERE id = ANY (CAST(:user_ids AS bigint[]))) AS users,
    ARRAY(SELECT external_id FROM orders
        WHERE cardinality(CAST(:external_ids AS text[])) > 0
            AND external_id = ANY (CAST(:external_ids AS text[]))) AS external_ids
""")

# Orders, lines, stock and ledger in one statement, for any number of orders. `nextval` gives each
# order its id here, so that its lines can name it, by its number: the plan is made for lists of any
# length, and a join of two lists could compare each line with each order. An address that was
# deleted a moment ago breaks the foreign key. The columns are named: with `*`, one that somebody
# adds makes prepared statements invalid.
_COLUMNS = ", ".join(Order.__table__.columns.keys())
_ADD = text(f"""
WITH new AS MATERIALIZED (
    SELECT array_agg(nextval('orders_id_seq')) AS ids FROM unnest(CAST(:user_ids AS bigint[]))
), lines AS MATERIALIZED (
    SELECT new.ids[l.number] AS order_id, l.product_id, l.quantity, l.price FROM new, unnest(
        CAST(:numbers AS int[]), CAST(:product_ids AS bigint[]), CAST(:quantities AS int[]),
        CAST(:prices AS numeric[])
    ) AS l (number, product_id, quantity, price)
), items AS (
    INSERT INTO order_items (order_id, product_id, quantity, unit_price) SELECT * FROM lines
), moved AS (
    INSERT INTO stock_movements (product_id, order_id, reason, quantity)
    SELECT product_id, order_id, 'order', -quantity FROM lines
), taken AS (
    UPDATE products p SET stock_quantity = p.stock_quantity - t.quantity
    FROM (SELECT product_id, sum(quantity) AS quantity FROM lines GROUP BY product_id) t
    WHERE p.id = t.product_id
), added AS (
    INSERT INTO orders
        (id, user_id, delivery_address_id, delivery_address, ordered_at, external_id)
    SELECT new.ids[o.number], o.user_id, o.address_id, (
        SELECT jsonb_build_object('street', a.street, 'city', a.city, 'state', a.state,
            'zip_code', a.zip_code, 'country', a.country)
        FROM addresses a WHERE a.id = o.address_id
    ), coalesce(o.ordered_at, now()), o.external_id
    FROM new, unnest(
        CAST(:user_ids AS bigint[]), CAST(:address_ids AS bigint[]),
        CAST(:ordered_at AS timestamptz[]), CAST(:external_ids AS text[])
    ) WITH ORDINALITY AS o (user_id, address_id, ordered_at, external_id, number)
    RETURNING *
)
SELECT {_COLUMNS} FROM added ORDER BY id
""").columns(delivery_address=JSONB)

_RESTOCK = text("""
WITH lines AS (
    SELECT product_id, quantity FROM order_items WHERE order_id = :order_id
), locked AS MATERIALIZED (
    SELECT id FROM products WHERE id IN (SELECT product_id FROM lines)
    ORDER BY id FOR NO KEY UPDATE
), restocked AS (
    UPDATE products p SET stock_quantity = p.stock_quantity + l.quantity
    FROM lines l JOIN locked ON locked.id = l.product_id WHERE p.id = l.product_id
    RETURNING p.id, p.stock_quantity
), moved AS (
    INSERT INTO stock_movements (product_id, order_id, reason, quantity)
    SELECT product_id, :order_id, 'cancellation', quantity FROM lines
)
SELECT id, stock_quantity FROM restocked
""")


_LIST = Listing(
    Order,
    filters={
        "user_id": Filter("user_id = :user_id", sort="id"),
        "status": Filter("status = :status", sort="id"),
        "external_id": Filter("external_id = :external_id"),
        "ordered_from": Filter("ordered_at >= :ordered_from", sort="ordered_at"),
        "ordered_before": Filter("ordered_at < :ordered_before", sort="ordered_at"),
    },
    sorts={"ordered_at": Key("ordered_at", "timestamptz", datetime)},
)


@dataclass(frozen=True)
class NewOrder:
    """`quantities` are by product id; several lines of one product are summed."""

    body: OrderCreate
    quantities: Mapping[int, int]


@dataclass
class LockedStock:
    """What a batch of orders needs to be decided: the locked products' stock and prices by product
    id, the users who own the addresses by address id, and which users and external ids exist."""

    stock: dict[int, int]
    prices: dict[int, Decimal]
    owners: dict[int, int]
    users: set[int]
    external_ids: set[str]


class OrderRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self, order_id: int) -> RowMapping | None:
        query = select(Order).where(Order.id == order_id)
        return (await self._connection.execute(query)).mappings().one_or_none()

    async def items(self, order_id: int) -> Sequence[OrderItem]:
        query = select(OrderItem).where(OrderItem.order_id == order_id)
        found = await self._connection.execute(query.order_by(OrderItem.product_id))
        return cast(Sequence[OrderItem], found.all())

    async def page(self, filters: Mapping[str, object], wanted: PageRequest) -> Page[Order]:
        return await _LIST.page(self._connection, filters, wanted)

    async def lock_for(self, orders: Sequence[NewOrder]) -> LockedStock:
        """Lock the products of the orders until the commit."""
        found = await self._connection.execute(
            _LOCK,
            {
                "product_ids": list({id for order in orders for id in order.quantities}),
                "address_ids": list({order.body.delivery_address_id for order in orders}),
                "user_ids": list({order.body.user_id for order in orders}),
                "external_ids": [o.body.external_id for o in orders if o.body.external_id],
            },
        )
        row = found.one()
        return LockedStock(
            stock=dict(zip(row.products, row.stock, strict=True)),
            prices=dict(zip(row.products, row.prices, strict=True)),
            owners=dict(zip(row.addresses, row.owners, strict=True)),
            users=set(row.users),
            external_ids=set(row.external_ids),
        )

    async def add(
        self, orders: Sequence[NewOrder], prices: Mapping[int, Decimal]
    ) -> Sequence[RowMapping]:
        """Write the orders and take their products, which must be locked and in stock, and cost
        `prices`. The new rows of `orders`, in the order given."""
        lines = [
            (number, product_id, quantity, prices[product_id])
            for number, order in enumerate(orders, 1)
            for product_id, quantity in order.quantities.items()
        ]
        numbers, product_ids, quantities, line_prices = zip(*lines, strict=True)
        added = await self._connection.execute(
            _ADD,
            {
                "user_ids": [order.body.user_id for order in orders],
                "address_ids": [order.body.delivery_address_id for order in orders],
                "ordered_at": [order.body.ordered_at for order in orders],
                "external_ids": [order.body.external_id for order in orders],
                "numbers": numbers,
                "product_ids": product_ids,
                "quantities": quantities,
                "prices": line_prices,
            },
        )
        return added.mappings().all()

    async def lock_status(self, order_id: int) -> str | None:
        query = select(Order.status).where(Order.id == order_id).with_for_update(key_share=True)
        return await self._connection.scalar(query)

    async def set_status(self, order_id: int, status: str) -> None:
        statement = (
            update(Order).where(Order.id == order_id).values(status=status, updated_at=func.now())
        )
        await self._connection.execute(statement)

    async def restock(self, order_id: int) -> Mapping[int, int]:
        """Give the order's products back to the stock; what there is now, by product id."""
        rows = (await self._connection.execute(_RESTOCK, {"order_id": order_id})).all()
        return {row.id: row.stock_quantity for row in rows}
