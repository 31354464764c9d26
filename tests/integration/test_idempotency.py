"""A POST with an Idempotency-Key acts once, and a repeat gets the same response."""

import asyncio
from typing import Any

import httpx
import pytest

from harness.databases import connected
from harness.shop import Shop

KEY = {"Idempotency-Key": "a-key"}
USER = {"username": "jane_doe", "email": "jane@example.com"}
PRODUCT = {"name": "Green tea", "price": "19.90", "stock_quantity": 5}


async def _total(client: httpx.AsyncClient, path: str) -> int:
    return int((await client.get(path)).json()["total"])


@pytest.mark.parametrize(("path", "body"), [("/users", USER), ("/products", PRODUCT)])
async def test_a_repeat_gets_the_first_response(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    first = await client.post(path, json=body, headers=KEY)
    assert first.status_code == 201
    for _ in range(2):
        again = await client.post(path, json=body, headers=KEY)
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["etag"] == first.headers["etag"]
    assert await _total(client, path) == 1


async def test_a_repeated_order_is_placed_once(client: httpx.AsyncClient, shop: Shop) -> None:
    product_id = await shop.product(stock=10)
    body = shop.order_body((product_id, 3))
    responses = [await client.post("/orders", json=body, headers=KEY) for _ in range(3)]
    assert {response.content for response in responses} == {responses[0].content}
    assert await shop.stock(product_id) == 7


async def test_repeats_at_the_same_moment_act_once(client: httpx.AsyncClient) -> None:
    posts = (client.post("/products", json=PRODUCT, headers=KEY) for _ in range(8))
    responses = await asyncio.gather(*posts)
    assert {response.status_code for response in responses} == {201}
    assert {response.content for response in responses} == {responses[0].content}
    assert await _total(client, "/products") == 1


@pytest.mark.parametrize(
    ("path", "body"), [("/products", PRODUCT | {"price": "1.00"}), ("/users", USER)]
)
async def test_another_request_with_the_key_is_rejected(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> None:
    await client.post("/products", json=PRODUCT, headers=KEY)
    rejected = await client.post(path, json=body, headers=KEY)
    assert (rejected.status_code, rejected.json()["reason"]) == (422, "key-reused")
    assert await _total(client, "/products") == 1
    assert await _total(client, "/users") == 0


@pytest.mark.parametrize("key", ["", "a b", "\xe9", "x" * 256])
async def test_invalid_keys(client: httpx.AsyncClient, key: str) -> None:
    given = {b"Idempotency-Key": key.encode("latin-1")}
    rejected = await client.post("/products", json=PRODUCT, headers=given)
    assert rejected.status_code == 422
    assert [error["field"] for error in rejected.json()["errors"]] == ["idempotency_key"]
    assert await _total(client, "/products") == 0


async def test_a_rejected_request_may_be_repeated_with_its_key(
    client: httpx.AsyncClient, shop: Shop
) -> None:
    product_id = await shop.product(stock=0)
    body = shop.order_body((product_id, 1))
    assert (await client.post("/orders", json=body, headers=KEY)).status_code == 409
    assert (
        await client.put(f"/products/{product_id}", json={"stock_quantity": 1})
    ).status_code == 200
    assert (await client.post("/orders", json=body, headers=KEY)).status_code == 201


async def test_a_key_is_kept_for_a_day(client: httpx.AsyncClient, database_url: str) -> None:
    async def after(hours: int) -> int:
        async with connected(database_url) as connection:
            await connection.execute(
                "UPDATE idempotency_keys SET created_at = now() - make_interval(hours => $1)", hours
            )
        assert (await client.post("/products", json=PRODUCT, headers=KEY)).status_code == 201
        return await _total(client, "/products")

    assert await after(0) == 1
    assert await after(23) == 1
    assert await after(25) == 2
