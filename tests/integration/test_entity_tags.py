"""Clients that say what they have read overwrite nothing that they have not seen."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from harness.shop import Shop

Thing = Callable[[Shop], Awaitable[tuple[str, dict[str, Any], dict[str, Any]]]]


async def _user(shop: Shop) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return f"/users/{shop.user_id}", {"description": "one"}, {"description": "two"}


async def _address(shop: Shop) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return f"/addresses/{shop.address_id}", {"city": "Bremen"}, {"city": "Köln"}


async def _product(shop: Shop) -> tuple[str, dict[str, Any], dict[str, Any]]:
    return f"/products/{await shop.product()}", {"price": "1.00"}, {"stock_quantity": 2}


async def _order(shop: Shop) -> tuple[str, dict[str, Any], dict[str, Any]]:
    order = await shop.order((await shop.product(), 1))
    return f"/orders/{order.id}", {"status": "processing"}, {"status": "cancelled"}


things = pytest.mark.parametrize("thing", [_user, _address, _product, _order])


async def _tag(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.get(path)
    assert answer.status_code == 200
    return str(answer.headers["etag"])


@things
async def test_a_put_with_an_old_tag_changes_nothing(
    thing: Thing, client: httpx.AsyncClient, shop: Shop
) -> None:
    path, first, second = await thing(shop)
    old = await _tag(client, path)
    changed = await client.put(path, json=first, headers={"If-Match": old})
    assert changed.status_code == 200
    assert changed.headers["etag"] == await _tag(client, path) != old
    refused = await client.put(path, json=second, headers={"If-Match": old})
    assert (refused.status_code, refused.json()["reason"]) == (412, "version-mismatch")
    assert (await client.get(path)).content == changed.content
    known = f'"other", {changed.headers["etag"]}'
    assert (await client.put(path, json=second, headers={"If-Match": known})).is_success


@things
async def test_of_two_at_the_same_moment_one_is_told(
    thing: Thing, client: httpx.AsyncClient, shop: Shop
) -> None:
    path, first, second = await thing(shop)
    known = {"If-Match": await _tag(client, path)}
    puts = (client.put(path, json=body, headers=known) for body in (first, second))
    assert sorted(answer.status_code for answer in await asyncio.gather(*puts)) == [200, 412]


@things
async def test_whoever_has_the_answer_is_not_sent_it_again(
    thing: Thing, client: httpx.AsyncClient, shop: Shop
) -> None:
    path, first, _ = await thing(shop)
    tag = await _tag(client, path)
    same = await client.get(path, headers={"If-None-Match": f'W/"x", W/{tag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    await client.put(path, json=first)
    assert (await client.get(path, headers={"If-None-Match": tag})).status_code == 200
