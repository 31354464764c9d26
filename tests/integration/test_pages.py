"""Pages of lists: every row is on exactly one page."""

import random
import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import Any

import httpx
import pytest

from app.container import Container
from app.errors import BadCursor
from app.repositories.cursors import ID, cursor_of, place_of
from app.schemas.pages import PageRequest
from app.schemas.types import ID_MAX
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
        pages = [
            await uow.products.list(PageRequest(count, page))
            for page in range(1, rows // count + 3)
        ]
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


# Cursors


async def follow(client: httpx.AsyncClient, path: str, name: str) -> AsyncIterator[list[int]]:
    """The ids of each page, by the links."""
    following: str | None = path
    while following:
        response = await client.get(following)
        assert response.status_code == 200, response.text
        yield [row["id"] for row in response.json()[name]]
        following = response.links.get("next", {}).get("url")


@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("rows", [0, 1, 2, 7, 14])
async def test_links_lead_through_the_whole_list(
    client: httpx.AsyncClient, database_url: str, rows: int, count: int
) -> None:
    async with connected(database_url) as connection:
        await _add_products(connection, rows)
        ids = [row[0] for row in await connection.fetch("SELECT id FROM products ORDER BY id")]
    pages = [page async for page in follow(client, f"/products?count={count}", "products")]
    assert [id for page in pages for id in page] == ids
    assert len(pages) == max(-(-rows // count), 1)  # no link to an empty page


@pytest.mark.parametrize("seed", range(8))
async def test_who_follows_the_links_misses_no_row_that_stays(
    client: httpx.AsyncClient, database_url: str, seed: int
) -> None:
    """Rows are added and deleted between the pages, most often around the reader's place."""
    chance = random.Random(seed)
    async with connected(database_url) as connection:
        await _add_products(connection, 60)
        staying = {row[0] for row in await connection.fetch("SELECT id FROM products")}
        found: list[int] = []
        async for page in follow(client, f"/products?count={chance.randint(1, 9)}", "products"):
            found += page
            near = [id for id in staying if id in found[-9:] or chance.random() < 0.1]
            gone = set(chance.sample(near, min(len(near), chance.randint(0, 5))))
            await connection.execute("DELETE FROM products WHERE id = ANY ($1)", list(gone))
            staying -= gone
            if len(found) < 60:  # else one who reads slowly would never come to the end
                await _add_products(connection, chance.randint(0, 3))
    assert found == sorted(set(found))
    assert staying <= set(found)


async def _add_products(connection: Any, rows: int) -> None:
    await connection.execute(
        "INSERT INTO products (name, price, stock_quantity) "
        "SELECT 'Tea', 1, 0 FROM generate_series(1, $1::int)",
        rows,
    )


async def test_the_link_keeps_the_filters_and_the_total(
    client: httpx.AsyncClient, shop: Shop
) -> None:
    product_id = await shop.product()
    ids = [(await shop.order((product_id, 1))).id for _ in range(5)]
    first = await client.get(f"/orders?status=pending&user_id={shop.user_id}&count=2&page=2")
    link = first.links["next"]["url"]
    assert {**httpx.URL(link).params, "after": ""} == {
        "user_id": str(shop.user_id),
        "status": "pending",
        "count": "2",
        "after": "",
    }
    second = await client.get(link)
    assert [order["id"] for order in second.json()["orders"]] == ids[4:]
    assert (second.json().keys(), second.json()["total"]) == ({"orders", "total"}, 5)
    assert "next" not in second.links


async def test_a_cursor_is_for_its_own_list_alone(client: httpx.AsyncClient, shop: Shop) -> None:
    product_id = await shop.product()
    for _ in range(3):
        await shop.order((product_id, 1))
        await shop.product()
    paths = ("/products?count=1", f"/orders?count=1&user_id={shop.user_id}", "/orders?count=1")
    links = [(await client.get(path)).links["next"]["url"] for path in paths]
    cursors = [link.partition("after=")[2] for link in links]
    for path, own in zip(paths, cursors, strict=True):
        assert (await client.get(f"{path}&after={own}")).status_code == 200
        damaged = [own[:n] + chr(ord(own[n]) ^ 1) + own[n + 1 :] for n in range(len(own))]
        others = [cursor for cursor in cursors if cursor != own]
        for wrong in (*others, *damaged, own[:-1], own + own, "A", "AAAAAAAAWzFd"):
            if re.fullmatch(r"[\w-]+", wrong):
                _is_bad_cursor(await client.get(f"{path}&after={wrong}"), "not from a Link")


async def test_a_cursor_stands_in_place_of_a_page(client: httpx.AsyncClient, shop: Shop) -> None:
    for _ in range(2):
        await shop.product()
    link = (await client.get("/products?count=1")).links["next"]["url"]
    _is_bad_cursor(await client.get(f"{link}&page=1"), "in place of `page`")


def _is_bad_cursor(response: httpx.Response, detail: str) -> None:
    problem = response.json()
    assert response.status_code == 422 and detail in problem["detail"], response.text
    assert (problem["reason"], problem["facts"]) == ("bad-cursor", {"field": "after"})


@pytest.mark.parametrize("place", ["[-1]", "[9007199254740992]", "[true]", '["1"]', "[1,2]", "1"])
def test_a_made_up_cursor_names_no_impossible_row(place: str) -> None:
    digest = blake2b(b"list" + place.encode(), digest_size=6).digest()
    cursor = urlsafe_b64encode(digest + place.encode()).rstrip(b"=").decode()
    with pytest.raises(BadCursor):
        place_of("list", cursor, [ID])


def test_a_cursor_leads_back_to_its_place() -> None:
    assert place_of("list", cursor_of("list", (ID_MAX,)), [ID]) == (ID_MAX,)
