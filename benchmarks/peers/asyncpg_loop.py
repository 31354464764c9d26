"""Places each order with a single statement, in a bare loop without a queue: the fastest safe way.

`python -m benchmarks.peers.asyncpg_loop ORDERS CONNECTIONS` prints the CPU seconds that it used.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import uvloop

from benchmarks.messages import an_order

_PLACE = """
WITH wanted AS (
    SELECT * FROM unnest($1::int[], $2::int[]) AS w (product_id, quantity)
), locked AS MATERIALIZED (
    SELECT id, price, stock_quantity FROM products
    WHERE id = ANY ($1::int[]) ORDER BY id FOR NO KEY UPDATE
), ok AS (
    SELECT count(*) = cardinality($1::int[]) AS good
    FROM locked l JOIN wanted w ON w.product_id = l.id WHERE l.stock_quantity >= w.quantity
), placed AS (
    INSERT INTO orders (user_id, delivery_address_id) SELECT $3, $4 FROM ok WHERE good
    RETURNING id
), items AS (
    INSERT INTO order_items (order_id, product_id, quantity, unit_price)
    SELECT placed.id, w.product_id, w.quantity, l.price
    FROM placed, wanted w JOIN locked l ON l.id = w.product_id
), taken AS (
    UPDATE products p SET stock_quantity = p.stock_quantity - w.quantity
    FROM placed, wanted w WHERE p.id = w.product_id
), moved AS (
    INSERT INTO stock_movements (product_id, order_id, reason, quantity)
    SELECT w.product_id, placed.id, 'order', -w.quantity FROM placed, wanted w
)
SELECT (SELECT id FROM placed) AS id
"""


async def _place(pool: "asyncpg.Pool[Any]", orders: Iterator[int]) -> None:
    async with pool.acquire() as connection:
        statement = await connection.prepare(_PLACE)
        for _ in orders:
            order = an_order()
            products = [line["product_id"] for line in order["items"]]
            quantities = [line["quantity"] for line in order["items"]]
            customer, address = order["user_id"], order["delivery_address_id"]
            assert await statement.fetchval(products, quantities, customer, address)


async def main(count: int, connections: int) -> None:
    url = os.environ["DATABASE_URL"].replace("+asyncpg", "")
    orders = iter(range(count))
    async with asyncpg.create_pool(url, min_size=connections, max_size=connections) as pool:
        began = time.process_time()
        await asyncio.gather(*(_place(pool, orders) for _ in range(connections)))
        print(time.process_time() - began)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
