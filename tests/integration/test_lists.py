"""What may be asked of a list: filters, orders, and the links to its pages."""

import itertools
from typing import Any

import httpx
import pytest

from harness.databases import connected
from harness.shop import Shop

PRODUCTS = [
    # name, sku, price
    ("Green tea", "TEA-1", "3.50"),
    ("green TEA, loose", "TEA-2", "2.00"),
    ("GREEN", None, "9.00"),
    ("Gre", "TEA-4", "9.00"),
    ("grf", None, "1.00"),
    ("100% green", "tea-1", "5.00"),
    ("Éclair", "E-1", "5.00"),
    ("éclair\u0020small", None, "5.00"),
    ("_", None, "5.00"),
]


async def _add_products(client: httpx.AsyncClient) -> None:
    for name, sku, price in PRODUCTS:
        body = {"name": name, "sku": sku, "price": price, "stock_quantity": 1}
        assert (await client.post("/products", json=body)).status_code == 201


async def _found(client: httpx.AsyncClient, path: str, **parameters: Any) -> list[Any]:
    """All rows, page after page by the links, with the total checked."""
    rows: list[Any] = []
    response = await client.get(path, params={"count": 2, **parameters})
    while True:
        assert response.status_code == 200, response.text
        body = response.json()
        rows += next(value for value in body.values() if isinstance(value, list))
        if not (following := response.links.get("next")):
            assert body["total"] == len(rows)
            return rows
        response = await client.get(following["url"])


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("green", ["GREEN", "Green tea", "green TEA, loose"]),
        ("GRE", ["Gre", "GREEN", "Green tea", "green TEA, loose"]),
        ("100%", ["100% green"]),
        ("%", []),
        ("_", ["_"]),
        ("e\u0301CLAIR", ["Éclair", "éclair small"]),
        ("\U0010ffff", []),
    ],
)
async def test_products_by_the_beginning_of_their_name(
    client: httpx.AsyncClient, prefix: str, names: list[str]
) -> None:
    await _add_products(client)
    found = await _found(client, "/products", name_prefix=prefix, sort="name")
    assert [product["name"] for product in found] == names


async def test_one_product_by_its_sku(client: httpx.AsyncClient) -> None:
    await _add_products(client)
    for sku, names in {"TEA-1": ["Green tea"], "tea-1": ["100% green"], "TEA": []}.items():
        assert [p["name"] for p in await _found(client, "/products", sku=sku)] == names


@pytest.mark.parametrize("sort", ["id", "price", "name"])
async def test_orders_of_products(client: httpx.AsyncClient, sort: str) -> None:
    """Rows with the same value are on one page each, too."""
    await _add_products(client)
    keys: dict[str, Any] = {
        "id": lambda p: p["id"],
        "price": lambda p: (float(p["price"]), p["id"]),
        "name": lambda p: (p["name"].lower(), p["id"]),
    }
    every = (await client.get("/products?count=100")).json()["products"]
    expected = sorted(every, key=keys[sort])
    assert await _found(client, "/products", sort=sort) == expected
    assert await _found(client, "/products", sort=f"-{sort}") == expected[::-1]
    for sign, rows in (("", expected), ("-", expected[::-1])):  # by the numbers of pages
        for count, page in itertools.product((1, 4, 100), range(1, 5)):
            given: Any = {"sort": sign + sort, "count": count, "page": page}
            body = (await client.get("/products", params=given)).json()
            assert body["products"] == rows[(page - 1) * count : page * count]


async def test_users_by_name_and_address(client: httpx.AsyncClient) -> None:
    for name in ("Ada", "bob", "Zoë"):
        body = {"username": name, "email": f"{name[0]}@Example.com"}
        assert (await client.post("/users", json=body)).status_code == 201
    for parameters, names in (
        ({"username": "ADA"}, ["Ada"]),
        ({"username": "ZOE\u0308"}, ["Zoë"]),
        ({"username": "ad"}, []),
        ({"email": "b@example.COM"}, ["bob"]),
        ({"email": "b@example.com", "username": "ada"}, []),
        ({"sort": "username"}, ["Ada", "bob", "Zoë"]),
        ({"sort": "-username"}, ["Zoë", "bob", "Ada"]),
    ):
        assert [u["username"] for u in await _found(client, "/users", **parameters)] == names


async def test_orders_by_everything(client: httpx.AsyncClient, shop: Shop) -> None:
    product_id = await shop.product()
    ids = {}
    for day in (3, 1, 2):
        time, external_id = f"2025-01-0{day}T12:00:00Z", f"web-{day}"
        order = await shop.order((product_id, 1), ordered_at=time, external_id=external_id)
        ids[day] = order.id
    for parameters, days in (
        ({"external_id": "web-2"}, [2]),
        ({"external_id": "WEB-2"}, []),
        ({"ordered_from": "2025-01-02T12:00:00Z", "sort": "ordered_at"}, [2, 3]),
        ({"ordered_before": "2025-01-02T12:00:00Z"}, [1]),
        ({"ordered_from": "2025-01-01T13:00:00", "ordered_before": "2025-01-03T00:00:00"}, [2]),
        (
            {"ordered_from": "2025-01-02T14:00:00+02:00", "ordered_before": "2025-01-03T00:00:00"},
            [2],
        ),
        ({"ordered_from": "8999-12-31T00:00:00-12:00"}, []),
        ({"ordered_from": "1000-01-02T00:00:00+14:00", "sort": "ordered_at"}, [1, 2, 3]),
        ({"sort": "-ordered_at", "status": "pending", "user_id": shop.user_id}, [3, 2, 1]),
        ({"sort": "-ordered_at", "status": "shipped"}, []),
        ({"sort": "-id"}, [2, 1, 3]),
    ):
        found = await _found(client, "/orders", **parameters)
        assert [order["id"] for order in found] == [ids[day] for day in days], parameters


@pytest.mark.parametrize(
    "query",
    ["sort=price", "sort=", "sort=--id", "external_id=", "external_id=%00", "ordered_from=now",
     "ordered_from=2025-13-01T00:00:00Z", "ordered_before=1", "ordered_before=2025-01-01",
     "ordered_before=9999-01-01T00:00:00Z", "ordered_before=2025-01-01T00:00:00Z%0A", "external_id=" + 256 * "x"],
)  # fmt: skip
async def test_what_is_wrong_is_said(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/orders?{query}")
    (error,) = response.json()["errors"]
    assert (response.status_code, error["field"]) == (422, query.partition("=")[0])
    assert error["message"].startswith("must be")


async def test_a_cursor_is_for_its_order(client: httpx.AsyncClient) -> None:
    await _add_products(client)
    link = (await client.get("/products?sort=price&count=1")).links["next"]["url"]
    assert (await client.get(link.replace("sort=price", "sort=-price"))).status_code == 422
    assert (await client.get(link.replace("sort=price&", ""))).status_code == 422


async def test_the_links_of_a_page(client: httpx.AsyncClient) -> None:
    await _add_products(client)

    async def links(path: str) -> dict[str, Any]:
        found = (await client.get(path)).links
        return {str(name): dict(httpx.URL(link["url"]).params) for name, link in found.items()}

    common = {"sort": "price", "count": "4"}
    first = await links("/products?sort=price&count=4")
    assert first.keys() == {"first", "next", "last"}
    assert first["first"] == {**common, "page": "1"} and first["last"] == {**common, "page": "3"}
    middle = await links("/products?sort=price&count=4&page=2")
    assert middle["prev"] == {**common, "page": "1"} and "next" in middle
    last = await links("/products?sort=price&count=4&page=3")
    assert last.keys() == {"first", "prev", "last"}
    beyond = await links("/products?sort=price&count=4&page=30")
    assert beyond["prev"] == {**common, "page": "3"}
    after = await links(str(httpx.URL("/products", params=first["next"])))
    assert after.keys() == {"first", "next", "last"}
    assert (await links("/users")).keys() == {"first", "last"}  # empty
