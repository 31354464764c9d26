"""An order keeps its delivery address as it was, whatever becomes of the address."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from app.schemas.orders import OrderStatus
from harness.databases import alembic, connected
from harness.shop import Shop

OLD = {
    "street": "Obere Str. 57",
    "city": "Berlin",
    "state": None,
    "zip_code": None,
    "country": "Germany",
}
NEW = {
    "street": "Rua do Paço, 67",
    "city": "Rio",
    "state": "RJ",
    "zip_code": "02389",
    "country": "Brazil",
}


async def address_of(client: httpx.AsyncClient, order_id: int) -> object:
    return (await client.get(f"/orders/{order_id}")).json()["delivery_address"]


async def move(client: httpx.AsyncClient, shop: Shop) -> None:
    moved = await client.put(f"/addresses/{shop.address_id}", json=NEW)
    assert (moved.status_code, moved.json()["street"]) == (200, NEW["street"])


async def over_http(client: httpx.AsyncClient, shop: Shop, product_id: int) -> int:
    placed = await client.post("/orders", json=shop.order_body((product_id, 1)))
    assert placed.json()["delivery_address"] == OLD
    return int(placed.json()["id"])


async def in_a_service(_: httpx.AsyncClient, shop: Shop, product_id: int) -> int:
    order = await shop.order((product_id, 1))
    return order.id


@pytest.mark.parametrize("place", [over_http, in_a_service])
async def test_a_customer_moves_and_no_order_changes(
    client: httpx.AsyncClient,
    shop: Shop,
    place: Callable[[httpx.AsyncClient, Shop, int], Awaitable[int]],
) -> None:
    product_id = await shop.product()
    before = await place(client, shop, product_id)
    delivered = await place(client, shop, product_id)
    steps = (OrderStatus.PROCESSING, OrderStatus.SHIPPED, OrderStatus.DELIVERED)
    await shop.change_status(delivered, *steps)
    tags = [(await client.get(f"/orders/{id}")).headers["etag"] for id in (before, delivered)]
    await move(client, shop)
    assert [await address_of(client, id) for id in (before, delivered)] == [OLD, OLD]
    now = [(await client.get(f"/orders/{id}")).headers["etag"] for id in (before, delivered)]
    assert now == tags
    step = await client.put(f"/orders/{before}", json={"status": "cancelled"})
    assert step.json()["delivery_address"] == OLD
    later = await shop.order((product_id, 1))
    assert later.delivery_address.model_dump() == NEW == await address_of(client, later.id)
    assert later.delivery_address_id == shop.address_id


async def test_orders_of_psql_keep_their_address_too(
    client: httpx.AsyncClient, shop: Shop, database_url: str
) -> None:
    async with connected(database_url) as connection:
        await connection.execute("SET search_path = ''")
        await connection.execute(
            "INSERT INTO public.orders (user_id, delivery_address_id) "
            f"VALUES ({shop.user_id}, {shop.address_id})"
        )
    await move(client, shop)
    assert await address_of(client, 1) == OLD


async def test_orders_from_before_the_migration_get_their_present_address(
    client: httpx.AsyncClient, shop: Shop, database_url: str, tree: Path
) -> None:
    order = await shop.order((await shop.product(), 1))
    await alembic(database_url, tree, "downgrade", "b1f0a6d3c5e2")
    await alembic(database_url, tree, "upgrade", "head")
    assert await address_of(client, order.id) == OLD
    await move(client, shop)
    assert await address_of(client, order.id) == OLD
