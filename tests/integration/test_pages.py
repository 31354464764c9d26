"""Pages of lists: every row is on exactly one page."""

import httpx
import pytest

from app.container import Container
from harness.databases import connected
from harness.shop import Shop


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 100])
@pytest.mark.parametrize("rows", [0, 1, 2, 6, 7])
async def test_the_pages_together_are_the_whole_list(
    container: Container, database_url: str, rows: int, count: int
) -> None:
    async with connected(database_url) as connection:
        await connection.execute(
            "INSERT INTO products (name, price, stock_quantity) "
            f"SELECT 'Tea', 1, 0 FROM generate_series(1, {rows + 3})"
        )
        await connection.execute(
            "DELETE FROM products WHERE id IN (SELECT id FROM products ORDER BY id % 2, id LIMIT 3)"
        )
        ids = [row[0] for row in await connection.fetch("SELECT id FROM products ORDER BY id")]
    async with container.reading() as uow:
        pages = [await uow.products.list(count, page) for page in range(1, rows // count + 3)]
    assert [product.id for page in pages for product in page.products] == ids
    assert {len(page.products) for page in pages[: rows // count]} <= {count}
    assert {page.total for page in pages} == {rows}


async def test_filters_apply_to_the_pages_and_to_the_total(
    client: httpx.AsyncClient, container: Container, shop: Shop
) -> None:
    product_id = await shop.product()
    other = await Shop.opened(container)
    ids: dict[int, list[int]] = {shop.user_id: [], other.user_id: []}
    for number in range(10):
        buyer = (shop, other)[number % 2]
        ids[buyer.user_id].append((await buyer.order((product_id, 1))).id)
    for user_id, expected in ids.items():
        found = []
        for page in (1, 2, 3):
            path = f"/orders?user_id={user_id}&status=pending&count=2&page={page}"
            body = (await client.get(path)).json()
            assert body["total"] == 5
            found += [order["id"] for order in body["orders"]]
        assert found == expected
    assert (await client.get(f"/orders?user_id={shop.user_id}&status=shipped")).json() == {
        "orders": [],
        "total": 0,
    }
