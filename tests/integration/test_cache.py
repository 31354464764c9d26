"""The cache in a real Valkey: what is stored and for how long, and that nothing depends on it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis
from sqlalchemy import Engine, event
from structlog.testing import capture_logs

from app.container import Container
from app.embedded import Valkey
from app.schemas.orders import OrderStatus
from harness.served import as_served
from harness.shop import Shop
from harness.waiting import eventually


@pytest.fixture
async def redis(valkey: Valkey, client: httpx.AsyncClient) -> AsyncIterator[Redis]:
    """A client of the cache, once the service has begun to use it."""
    async with Redis(port=valkey.port, decode_responses=True) as redis:

        async def in_use() -> bool:
            await client.post("/users", json={"username": "probe", "email": "probe@example.com"})
            await client.get("/users/1")
            return bool(await redis.delete("user:1"))

        await eventually(in_use)
        yield redis


async def read(client: httpx.AsyncClient, path: str) -> Any:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


async def stored(redis: Redis, key: str) -> Any:
    return json.loads(await redis.get(key) or "null")


@pytest.mark.parametrize(("kind", "ttl"), [("user", 3600), ("product", 600)])
async def test_a_miss_fills_the_key_and_a_hit_reads_it(
    kind: str, ttl: int, redis: Redis, client: httpx.AsyncClient, shop: Shop
) -> None:
    row_id = shop.user_id if kind == "user" else await shop.product()
    key, path = f"{kind}:{row_id}", f"/{kind}s/{row_id}"
    with capture_logs() as lines:
        row = await read(client, path)
    assert ("cache miss", key, "info") in events(lines)
    assert await stored(redis, key) == row
    assert ttl - 5 <= await redis.ttl(key) <= ttl
    assert not await redis.exists(f"lease:{key}")

    # The service sends what the key holds and does not look into the database, which differs.
    await redis.set(key, json.dumps(row | {"description": "from the cache"}, separators=(",", ":")))
    with capture_logs() as lines:
        assert (await read(client, path))["description"] == "from the cache"
    assert ("cache hit", key, "debug") in events(lines)


def events(lines: Any) -> list[tuple[str, str, str]]:
    return [(line["event"], line.get("key", ""), line["log_level"]) for line in lines]


async def test_the_keys_of_a_kind_are_cached_rows_only(
    redis: Redis, client: httpx.AsyncClient, shop: Shop
) -> None:
    product_id = await shop.product()
    await read(client, f"/users/{shop.user_id}")
    await read(client, f"/products/{product_id}")
    await client.get("/users/999999")
    assert await redis.keys("user:*") == [f"user:{shop.user_id}"]
    assert await redis.keys("product:*") == [f"product:{product_id}"]


async def test_a_change_of_a_user_deletes_the_key(
    redis: Redis, client: httpx.AsyncClient, shop: Shop
) -> None:
    path = f"/users/{shop.user_id}"
    await read(client, path)
    assert (await client.put(path, json={"description": "new"})).status_code == 200
    assert not await redis.exists(f"user:{shop.user_id}")
    assert (await read(client, path))["description"] == "new"

    await client.delete(path)
    assert not await redis.exists(f"user:{shop.user_id}")
    assert (await client.get(path)).status_code == 404


async def test_a_change_of_a_product_stores_the_new_value(
    redis: Redis, client: httpx.AsyncClient, shop: Shop
) -> None:
    product_id = await shop.product()
    key, path = f"product:{product_id}", f"/products/{product_id}"

    async def is_stored_anew() -> bool:
        await read(client, path)
        await redis.expire(key, 10)
        changed = await client.put(path, json={"price": "12.50"})
        return bool(
            await stored(redis, key) == changed.raise_for_status().json()
            and await redis.ttl(key) > 590
        )

    # On a machine that stands still for longer than a call may take, the key is deleted instead.
    await eventually(is_stored_anew)
    await client.delete(path)
    assert not await redis.exists(key)
    assert (await client.get(path)).status_code == 404


async def test_orders_and_cancellations_delete_the_keys_of_their_products(
    redis: Redis, client: httpx.AsyncClient, shop: Shop
) -> None:
    ordered, other = await shop.product(stock=5), await shop.product(stock=5)
    paths = [f"/products/{ordered}", f"/products/{other}"]
    for path in paths:
        await read(client, path)
    order = await shop.order((ordered, 2))
    assert await redis.keys("product:*") == [f"product:{other}"]
    assert (await read(client, paths[0]))["stock_quantity"] == 3
    await shop.change_status(order.id, OrderStatus.CANCELLED)
    assert await redis.keys("product:*") == [f"product:{other}"]
    assert (await read(client, paths[0]))["stock_quantity"] == 5


@pytest.mark.parametrize("damage", ['{"x', "[]", "", '{"id":999999,"username":"somebody"}'])
async def test_a_damaged_value_is_a_miss(
    damage: str, redis: Redis, client: httpx.AsyncClient, shop: Shop
) -> None:
    path = f"/users/{shop.user_id}"
    expected = await read(client, path)
    await redis.set(f"user:{shop.user_id}", damage)

    async def is_repaired() -> bool:
        assert await read(client, path) == expected
        return bool(await stored(redis, f"user:{shop.user_id}") == expected)

    await eventually(is_repaired)


async def test_a_key_of_another_type_is_a_miss(
    redis: Redis, client: httpx.AsyncClient, shop: Shop
) -> None:
    await redis.lpush(f"user:{shop.user_id}", "x")
    assert (await read(client, f"/users/{shop.user_id}"))["id"] == shop.user_id


@pytest.mark.usefixtures("client")  # its application keeps the trust window open
async def test_two_hundred_readers_of_a_cold_key_query_the_database_at_most_twice(
    redis: Redis, container: Container, shop: Shop
) -> None:
    """On the fast path, where nobody is refused."""
    request = f"GET /users/{shop.user_id} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    loads = 0

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal loads
        loads += "FROM users" in statement

    event.listen(Engine, "before_cursor_execute", count)
    try:
        async with as_served(container) as server:
            answers = await asyncio.gather(*(server.answer(request.encode()) for _ in range(200)))
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 200"}
    assert 1 <= loads <= 2
    assert await redis.exists(f"user:{shop.user_id}")


async def test_a_rolled_back_change_leaves_the_key(
    redis: Redis, client: httpx.AsyncClient, shop: Shop
) -> None:
    path = f"/users/{shop.user_id}"
    expected = await read(client, path)
    response = await client.put(path, json={"description": "x", "username": "PROBE"})
    assert response.status_code == 400
    assert await stored(redis, f"user:{shop.user_id}") == expected


async def test_everything_works_without_redis_and_nothing_is_stale_after_its_return(
    redis: Redis, client: httpx.AsyncClient, shop: Shop, valkey: Valkey
) -> None:
    product_id = await shop.product(stock=5)
    user, product = f"/users/{shop.user_id}", f"/products/{product_id}"
    await read(client, user)
    await read(client, product)
    await valkey.stop()  # its file keeps the two keys
    assert (await read(client, user))["description"] is None
    assert (await client.put(user, json={"description": "new"})).status_code == 200
    assert (await read(client, user))["description"] == "new"
    assert (await client.put(product, json={"price": "1.00"})).status_code == 200
    body = shop.order_body((product_id, 5))
    assert (await client.post("/orders", json=body)).status_code == 201
    assert (await client.delete("/users/1")).status_code == 204
    ready = await client.get("/health/ready")
    assert (ready.status_code, ready.json()["parts"]["redis"]) == (200, "degraded")

    await valkey.start()

    async def in_use_again() -> bool:
        fresh = await read(client, user), await read(client, product)
        assert fresh[0]["description"] == "new"
        assert (fresh[1]["price"], fresh[1]["stock_quantity"]) == ("1.00", 0)
        return bool(await redis.exists(f"user:{shop.user_id}", f"product:{product_id}") == 2)

    await eventually(in_use_again)
