from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Row, Text, bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from app.models import Order

# One statement: it locks the products in id order, so that two orders cannot deadlock, checks, and
# writes only if everything is there. The foreign keys take their share locks at its end, after
# ours. The new stock is the locked row's less the order: `p` is as old as the snapshot, and if it
# was empty then, the CHECK would fire before PostgreSQL looks at the newer row.
# Of twelve ways measured on hot products the fastest that neither oversells nor deadlocks.
_PLACE = text("""
WITH wanted AS (
    SELECT * FROM unnest(CAST(:product_ids AS int[]), CAST(:quantities AS int[]))
        AS w (product_id, quantity)
), locked AS MATERIALIZED (
    SELECT id, price, stock_quantity FROM products
    WHERE id = ANY (CAST(:product_ids AS int[])) ORDER BY id FOR NO KEY UPDATE
), short AS (
    SELECT w.product_id, w.quantity AS wanted, l.stock_quantity AS in_stock
    FROM wanted w LEFT JOIN locked l ON l.id = w.product_id
    WHERE l.id IS NULL OR l.stock_quantity < w.quantity
), known AS (
    SELECT EXISTS (SELECT FROM users WHERE id = :user_id) AS "user",
           EXISTS (SELECT FROM addresses WHERE id = :address_id AND user_id = :user_id) AS address
), placed AS (
    INSERT INTO orders (user_id, delivery_address_id, ordered_at, external_id)
    SELECT :user_id, :address_id, coalesce(CAST(:ordered_at AS timestamptz), now()), :external_id
    FROM known WHERE "user" AND address AND NOT EXISTS (SELECT FROM short)
    RETURNING *
), items AS (
    INSERT INTO order_items (order_id, product_id, quantity, unit_price)
    SELECT placed.id, w.product_id, w.quantity, l.price
    FROM placed, wanted w JOIN locked l ON l.id = w.product_id
    RETURNING product_id, quantity, unit_price
), taken AS (
    UPDATE products p SET stock_quantity = l.stock_quantity - w.quantity
    FROM placed, wanted w JOIN locked l ON l.id = w.product_id
    WHERE p.id = w.product_id RETURNING p.id, p.stock_quantity
), moved AS (
    INSERT INTO stock_movements (product_id, order_id, reason, quantity)
    SELECT w.product_id, placed.id, 'order', -w.quantity FROM placed, wanted w
)
SELECT known."user", known.address, placed.*,
    (SELECT coalesce(json_agg(json_build_object('product_id', product_id, 'quantity', quantity,
        'unit_price', unit_price::text) ORDER BY product_id), '[]') FROM items) AS items,
    (SELECT coalesce(json_agg(json_build_object('product_id', product_id, 'wanted', wanted,
        'in_stock', in_stock) ORDER BY product_id), '[]') FROM short) AS short,
    (SELECT coalesce(array_agg(id), '{}') FROM taken WHERE stock_quantity = 0) AS sold_out
FROM known LEFT JOIN placed ON true
""").bindparams(
    bindparam("ordered_at", type_=DateTime(timezone=True)), bindparam("external_id", type_=Text)
)

_RESTOCK = text("""
WITH lines AS (
    SELECT product_id, quantity FROM order_items WHERE order_id = :order_id
), locked AS MATERIALIZED (
    SELECT id FROM products WHERE id IN (SELECT product_id FROM lines)
    ORDER BY id FOR NO KEY UPDATE
), restocked AS (
    UPDATE products p SET stock_quantity = p.stock_quantity + l.quantity
    FROM lines l JOIN locked ON locked.id = l.product_id WHERE p.id = l.product_id
    RETURNING p.id
), moved AS (
    INSERT INTO stock_movements (product_id, order_id, reason, quantity)
    SELECT product_id, :order_id, 'cancellation', quantity FROM lines
)
SELECT id FROM restocked
""")


class OrderRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def find(self, order_id: int) -> Order | None:
        """With its items."""
        query = (
            select(Order)
            .where(Order.id == order_id)
            .options(selectinload(Order.items))
            .execution_options(populate_existing=True)
        )
        return await self._session.scalar(query)

    async def page(self, filters: Mapping[str, Any], limit: int, offset: int) -> Sequence[Order]:
        query = select(Order).filter_by(**filters).order_by(Order.id).limit(limit).offset(offset)
        return (await self._session.scalars(query)).all()

    async def count(self, filters: Mapping[str, Any]) -> int:
        query = select(func.count()).select_from(Order).filter_by(**filters)
        return await self._session.scalar(query) or 0

    async def place(
        self,
        user_id: int,
        address_id: int,
        quantities: Mapping[int, int],
        ordered_at: datetime | None,
        external_id: str | None,
    ) -> Row[Any]:
        """The order's columns and `items`, or a null `id`; then `user`, `address` and `short` (with
        a null `in_stock` for an unknown product) tell why. `sold_out`: products it emptied."""
        answer = await self._session.execute(
            _PLACE,
            {
                "user_id": user_id,
                "address_id": address_id,
                "product_ids": list(quantities),
                "quantities": list(quantities.values()),
                "ordered_at": ordered_at,
                "external_id": external_id,
            },
        )
        return answer.one()

    async def lock_status(self, order_id: int) -> str | None:
        query = select(Order.status).where(Order.id == order_id).with_for_update(key_share=True)
        return await self._session.scalar(query)

    async def set_status(self, order_id: int, status: str) -> None:
        statement = (
            update(Order)
            .where(Order.id == order_id)
            .values(status=status, updated_at=func.now())
            .execution_options(synchronize_session=False)
        )
        await self._session.execute(statement)

    async def restock(self, order_id: int) -> Sequence[int]:
        """Give the order's pieces back; the ids of the products that got some."""
        return (await self._session.scalars(_RESTOCK, {"order_id": order_id})).all()
