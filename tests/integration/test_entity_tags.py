"""If-Match keeps a client from overwriting what it has not seen; If-None-Match saves a repeat."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from harness.shop import Shop

# Makes a row; gives its path and two bodies for a PUT.
Resource = Callable[[Shop], Awaitable[tuple[str, dict[str, Any], dict[str, Any]]]]


async def _user(shop: Shop) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return f"/users/{shop.user_id}", {"description": "one"}, {"description": "two"}


async def _address(shop: Shop) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return f"/addresses/{shop.address_id}", {"city": "Bremen"}, {"city": "Köln"}


async def _product(shop: Shop) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return f"/products/{await shop.product()}", {"price": "1.00"}, {"stock_quantity": 2}


async def _order(shop: Shop) -> tuple[str, dict[str, Any], dict[str, Any]]:
    order = await shop.order((await shop.product(), 1))
    return f"/orders/{order.id}", {"status": "processing"}, {"status": "cancelled"}


every_resource = pytest.mark.parametrize("resource", [_user, _address, _product, _order])


async def _tag(client: httpx.AsyncClient, path: str) -> str:
    response = await client.get(path)
    assert response.status_code == 200
    return str(response.headers["etag"])


@every_resource
async def test_a_put_with_an_old_tag_changes_nothing(
    resource: Resource, client: httpx.AsyncClient, shop: Shop
) -> None:
    path, first, second = await resource(shop)
    old = await _tag(client, path)
    changed = await client.put(path, json=first, headers={"If-Match": old})
    assert changed.status_code == 200
    assert changed.headers["etag"] == await _tag(client, path) != old
    rejected = await client.put(path, json=second, headers={"If-Match": old})
    assert (rejected.status_code, rejected.json()["reason"]) == (412, "version-mismatch")
    assert (await client.get(path)).content == changed.content
    known = f'"other", {changed.headers["etag"]}'
    assert (await client.put(path, json=second, headers={"If-Match": known})).is_success


@every_resource
async def test_one_of_two_puts_at_the_same_moment_is_rejected(
    resource: Resource, client: httpx.AsyncClient, shop: Shop
) -> None:
    path, first, second = await resource(shop)
    known = {"If-Match": await _tag(client, path)}
    puts = (client.put(path, json=body, headers=known) for body in (first, second))
    assert sorted(response.status_code for response in await asyncio.gather(*puts)) == [200, 412]


@every_resource
async def test_a_client_that_has_the_current_version_gets_304(
    resource: Resource, client: httpx.AsyncClient, shop: Shop
) -> None:
    path, first, _ = await resource(shop)
    tag = await _tag(client, path)
    same = await client.get(path, headers={"If-None-Match": f'W/"x", W/{tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    await client.put(path, json=first)
    assert (await client.get(path, headers={"If-None-Match": tag})).status_code == 200
