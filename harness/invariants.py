"""What must be true of the database at every moment; tests check it at their end."""

from typing import Any

from harness.databases import connected

# Each query returns the rows that break the rule.
_RULES = {
    "the ledger adds up to the stock": """
        SELECT p.id, p.stock_quantity, coalesce(sum(m.quantity), 0) AS ledger
        FROM products p LEFT JOIN stock_movements m ON m.product_id = p.id
        GROUP BY p.id HAVING p.stock_quantity <> coalesce(sum(m.quantity), 0)
    """,
    "the orders and their cancellations are in the ledger": """
        SELECT order_id, product_id, sum(quantity) FROM (
            SELECT i.order_id, i.product_id, i.quantity FROM order_items i
                JOIN orders o ON o.id = i.order_id AND o.status <> 'cancelled'
            UNION ALL
            SELECT order_id, product_id, quantity FROM stock_movements WHERE order_id IS NOT NULL
        ) AS movements GROUP BY order_id, product_id HAVING sum(quantity) <> 0
    """,
    "an order takes stock once and returns it at most once": """
        SELECT order_id, product_id, reason FROM stock_movements WHERE order_id IS NOT NULL
        GROUP BY order_id, product_id, reason HAVING count(*) > 1
    """,
    "no stock is negative": "SELECT id FROM products WHERE stock_quantity < 0",
    "every order has items": """
        SELECT id FROM orders o WHERE NOT EXISTS (SELECT FROM order_items WHERE order_id = o.id)
    """,
    "the delivery address of an order belongs to its user": """
        SELECT o.id FROM orders o JOIN addresses a ON a.id = o.delivery_address_id
        WHERE a.user_id <> o.user_id
    """,
    "a report row counts the pieces of its order": """
        SELECT r.id FROM reports r JOIN order_items i ON i.order_id = r.order_id
        GROUP BY r.id HAVING sum(i.quantity) <> r.count_product
    """,
    "an order is in the report of a day at most once": """
        SELECT report_at, order_id FROM reports GROUP BY 1, 2 HAVING count(*) > 1
    """,
    "every day with report rows has a run": """
        SELECT report_at FROM reports EXCEPT SELECT report_date FROM report_runs WHERE batches > 0
    """,
    "the kept totals equal the row counts": """
        SELECT name, count, rows FROM (
            SELECT 'users' AS name, count(*) FROM users
            UNION ALL SELECT 'products', count(*) FROM products
            UNION ALL SELECT 'orders', count(*) FROM orders
        ) counted LEFT JOIN (
            SELECT table_name AS name, sum(rows) AS rows FROM row_counts GROUP BY 1
        ) kept USING (name) WHERE count <> coalesce(rows, 0)
    """,
    "a settled message has a finish time, and an applied one a result": """
        SELECT message_id FROM messages
        WHERE (status = 'failing') <> (finished_at IS NULL)
            OR (status = 'applied') <> (result_id IS NOT NULL)
    """,
}


async def broken_rules(database_url: str) -> dict[str, list[tuple[Any, ...]]]:
    async with connected(database_url) as connection:
        found = {rule: await connection.fetch(query) for rule, query in _RULES.items()}
    return {rule: [tuple(row) for row in rows] for rule, rows in found.items() if rows}


async def check_invariants(database_url: str) -> None:
    broken = await broken_rules(database_url)
    assert not broken, broken
