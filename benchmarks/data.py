"""Fills databases with many rows, which PostgreSQL generates itself."""

from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta

from harness.databases import connected

LINES = 3
HOT_PRODUCTS = 10
CUSTOMERS = 100
_STOCK = 1_000_000_000

_USERS = """
INSERT INTO users (username, email, description)
SELECT 'user' || n, 'user' || n || '@example.com', 'Gardener' FROM generate_series(1, {count}) n
"""
_SHOP = f"""
INSERT INTO addresses (user_id, street, city, country)
SELECT id, 'Obere Str. 57', 'Berlin', 'DE' FROM users WHERE id <= {CUSTOMERS} ORDER BY id;
INSERT INTO products (name, price, stock_quantity)
SELECT 'Tea ' || n, 9.90, {_STOCK} FROM generate_series(1, {{count}}) n;
INSERT INTO stock_movements (product_id, reason, quantity)
SELECT id, 'opening', stock_quantity FROM products;
"""
# The foreign keys are right by construction; checking them row by row would take most of the time.
# In the role of a replica only those triggers fire that always do: the kept totals, and the
# addresses of the orders.
_ORDERS = f"""
SET LOCAL session_replication_role = replica;
INSERT INTO orders (user_id, delivery_address_id, ordered_at)
SELECT 1, 1, TIMESTAMPTZ '{{day}} 00:00Z' + n * INTERVAL '1 day' / ({{count}} + 1)
FROM generate_series(1, {{count}}) n;
INSERT INTO order_items (order_id, product_id, quantity, unit_price)
SELECT o.id, 1 + (o.id + n) % {HOT_PRODUCTS}, n, 9.90
FROM orders o, generate_series(1, {LINES}) n;
INSERT INTO stock_movements (product_id, order_id, reason, quantity)
SELECT product_id, order_id, 'order', -quantity FROM order_items;
UPDATE products p SET stock_quantity = m.stock
FROM (SELECT product_id, sum(quantity) AS stock FROM stock_movements GROUP BY product_id) m
WHERE m.product_id = p.id;
"""
# Orders without lines. Each status has a quarter of them, but for `cancelled`, which few have.
_VARIETY = """
UPDATE products SET sku = 'SKU-' || id, price = id % 10000,
    name = (ARRAY ['Green', 'Black', 'White', 'Red', 'Mint'])[1 + id % 5] || ' tea ' || id;
SET LOCAL session_replication_role = replica;
INSERT INTO orders (user_id, delivery_address_id, external_id, ordered_at, status)
SELECT 1 + n % 100, 1 + n % 100, 'web-' || n, now() - n * INTERVAL '1 minute',
    CASE WHEN n % 10000 = 0 THEN 'cancelled'
    ELSE (ARRAY ['pending', 'processing', 'shipped', 'delivered'])[1 + n % 4] END
FROM generate_series(1, {count}) n;
"""
# A hundred days up to now, of as many orders each. Every order came by a message; one in 1,000 is
# dated back, and as many messages were refused. The products have from 0 to 9,999 pieces.
_HISTORY = """
UPDATE products SET stock_quantity = id % 10000;
SET LOCAL session_replication_role = replica;
INSERT INTO orders (user_id, delivery_address_id, created_at, ordered_at, status)
SELECT 1 + n % 100, 1 + n % 100, t, t - (n % 1000 = 0)::int * INTERVAL '1 day',
    CASE WHEN t > now() - INTERVAL '2 days'
        THEN (ARRAY ['pending', 'processing', 'shipped', 'cancelled'])[1 + n % 4]
        ELSE 'delivered' END
FROM generate_series({count}, 1, -1) n,
    LATERAL (SELECT now() - n * INTERVAL '100 days' / {count}) AS at (t);
INSERT INTO messages (message_id, queue, status, reason, detail, first_seen_at, finished_at)
SELECT 'web-' || n, 'order', CASE WHEN n % 1000 = 0 THEN 'rejected' ELSE 'applied' END,
    CASE WHEN n % 1000 = 0 THEN 'out-of-stock' END,
    CASE WHEN n % 1000 = 0 THEN 'too little' END, t, t
FROM generate_series({count}, 1, -1) n,
    LATERAL (SELECT now() - n * INTERVAL '100 days' / {count}) AS at (t);
INSERT INTO report_runs (report_date, batches, closed_at)
SELECT current_date - n, 1, now() - n * INTERVAL '1 day' FROM generate_series(1, 100) n;
INSERT INTO report_run_parts (report_date, number, orders, units, built_at)
SELECT report_date, 1, {count} / 100, {count} / 50, closed_at FROM report_runs
ON CONFLICT DO NOTHING;
"""
_REPORT = """
INSERT INTO reports (report_at, order_id, count_product)
SELECT '{day}', order_id, sum(quantity) FROM order_items GROUP BY order_id
"""


def yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)


async def execute(url: str, *scripts: str) -> None:
    async with connected(url) as connection:
        for script in scripts:
            async with connection.transaction():
                await connection.execute(script, timeout=600)
        await connection.execute("VACUUM ANALYZE", timeout=600)


def users(count: int) -> Callable[[str], Awaitable[None]]:
    """This many users, 100 of them with an address, and one product."""
    return lambda url: execute(url, _USERS.format(count=count), _SHOP.format(count=1))


def shop(products: int = HOT_PRODUCTS) -> Callable[[str], Awaitable[None]]:
    """A thousand users, 100 of them customers with an address; products with ample stock."""
    return lambda url: execute(url, _USERS.format(count=1000), _SHOP.format(count=products))


def variety(count: int) -> Callable[[str], Awaitable[None]]:
    """This many products and orders with all that lists are filtered and ordered by."""
    scripts = [_USERS.format(count=1000), _SHOP.format(count=count), _VARIETY.format(count=count)]
    return lambda url: execute(url, *scripts)


def history(count: int, products: int) -> Callable[[str], Awaitable[None]]:
    """This many orders and messages of a hundred days, with the sums of their reports."""
    scripts = [_USERS.format(count=1000), _SHOP.format(count=products)]
    return lambda url: execute(url, *scripts, _HISTORY.format(count=count))


def orders(count: int, reported: bool = False) -> Callable[[str], Awaitable[None]]:
    """A shop of 1,000 products, this many orders of yesterday, and their report if `reported`."""
    scripts = [_USERS.format(count=1000), _SHOP.format(count=1000)]
    scripts.append(_ORDERS.format(count=count, day=yesterday()))
    scripts += [_REPORT.format(day=yesterday())] if reported else []
    return lambda url: execute(url, *scripts)
