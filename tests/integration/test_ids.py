"""Ids have 64 bits inside and end at 2^53 - 1 outside; a refused request uses none up."""

import asyncio

import httpx
import pytest

from app.container import Container
from app.models.base import Base
from app.rest.asgi import places
from app.schemas.types import ID_MAX
from harness.databases import connected
from harness.shop import Shop

# In the order in which orders and reports need them.
TABLES = ["users", "addresses", "products", "orders", "reports"]
_NARROW = """
SELECT table_name || '.' || column_name FROM information_schema.columns
WHERE table_schema = 'public' AND data_type IN ('smallint', 'integer')
    AND (column_name = 'id' OR column_name LIKE '%\\_id')
UNION ALL SELECT sequencename FROM pg_sequences WHERE data_type <> 'bigint'::regtype
"""


async def used_ids(database_url: str, table: str) -> int:
    async with connected(database_url) as connection:
        query = f"SELECT last_value - 1 + is_called::int FROM {table}_id_seq"
        return int(await connection.fetchval(query))


async def test_every_id_and_every_sequence_has_64_bits(database_url: str) -> None:
    async with connected(database_url) as connection:
        narrow = {row[0] for row in await connection.fetch(_NARROW)}
    assert narrow == {"installation.id", "cache_server.id"}  # one row each
    assert len(Base.metadata.tables) > 10


async def test_a_shop_beyond_32_bits(
    container: Container, client: httpx.AsyncClient, database_url: str
) -> None:
    """Rows with ids at the end of what clients can be given, through every door."""
    async with connected(database_url) as connection:
        for number, table in enumerate(TABLES):
            await connection.execute(f"SELECT setval('{table}_id_seq', {ID_MAX - 10 - number})")
    shop = await Shop.opened(container)
    product_id = await shop.product(stock=5)
    assert min(shop.user_id, shop.address_id, product_id) > 2**52
    placed = await client.post("/orders", json=shop.order_body((product_id, 2)))
    assert placed.status_code == 201, placed.text
    order_id = placed.json()["id"]
    for path in (f"/users/{shop.user_id}", f"/addresses/{shop.address_id}", f"/orders/{order_id}"):
        assert (await client.get(path)).json()["id"] == int(path.rpartition("/")[2])
    assert (await client.get(f"/products/{product_id}")).json()["stock_quantity"] == 3
    assert (await client.get(f"/users/{shop.user_id}/addresses")).json()["total"] == 1
    assert (await client.get(f"/orders?user_id={shop.user_id}")).json()["total"] == 1
    assert (await client.post("/report")).json()["created"] == 1
    [row] = (await client.get("/report")).json()
    assert row["order_id"] == order_id and row["id"] > 2**52
    cancelled = await client.put(f"/orders/{order_id}", json={"status": "cancelled"})
    assert cancelled.json()["status"] == "cancelled"
    assert (await client.get(f"/products/{product_id}")).json()["stock_quantity"] == 5


async def test_the_last_page_that_can_be_asked_for_is_empty(client: httpx.AsyncClient) -> None:
    for path in ("/users", "/products", "/orders", "/orders?status=pending"):
        mark = "&" if "?" in path else "?"
        page = await client.get(f"{path}{mark}count=100&page={ID_MAX // 100}")
        assert page.status_code == 200, page.text
        assert page.json()["total"] == 0


@pytest.mark.parametrize(
    "taken",
    [
        {"username": "JANE_doe", "email": "other@example.com"},
        {"username": "other", "email": "Jane@example.com"},
        {"username": "jane_doe", "email": "jane@example.com"},
    ],
)
async def test_refused_sign_ups_use_up_no_ids(
    client: httpx.AsyncClient, database_url: str, taken: dict[str, str]
) -> None:
    first = {"username": "jane_doe", "email": "jane@example.com", "description": "Gardener"}
    created = (await client.post("/users", json=first)).json()
    assert {name: created[name] for name in first} == first
    for _ in range(5):
        refused = await client.post("/users", json=taken)
        assert (refused.status_code, refused.json()["reason"]) == (400, "duplicate")
    assert await used_ids(database_url, "users") == 1


async def test_a_refused_sku_uses_up_no_id(client: httpx.AsyncClient, database_url: str) -> None:
    tea = {"sku": "TEA-1", "name": "Tea", "price": "1.00", "stock_quantity": 1}
    statuses = [(await client.post("/products", json=tea)).status_code for _ in range(3)]
    assert statuses == [201, 400, 400]
    nameless = tea | {"sku": None}
    statuses = [(await client.post("/products", json=nameless)).status_code for _ in range(3)]
    assert statuses == [201, 201, 201]
    assert await used_ids(database_url, "products") == 4


async def test_a_refused_order_uses_up_no_id(shop: Shop, client: httpx.AsyncClient) -> None:
    product_id = await shop.product(stock=5)
    body = shop.order_body((product_id, 1), external_id="web-1")
    first = (await client.post("/orders", json=body)).json()["id"]
    for wrong in (body, shop.order_body((product_id, 99)), body | {"user_id": ID_MAX}):
        assert (await client.post("/orders", json=wrong)).status_code in (400, 404, 409, 422)
    again = await client.post("/orders", json=body | {"external_id": "web-2"})
    assert again.json()["id"] == first + 1


async def test_a_lost_race_is_still_a_duplicate(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There are fewer places: where commits are slow, some would wait too long and be refused.
    monkeypatch.setattr(places, "PATIENCE_SECONDS", 60.0)
    user = {"username": "jane_doe", "email": "jane@example.com"}
    posts = await asyncio.gather(*(client.post("/users", json=user) for _ in range(20)))
    assert sorted(post.status_code for post in posts) == [201] + [400] * 19
