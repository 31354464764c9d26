"""What an operation answers fits the API document, and another operation takes it."""

from typing import Any
from uuid import uuid4

import httpx
import jsonschema_rs
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import lists, sampled_from

from app.schemas.products import STOCK_MAX
from harness.bodies import ADDRESS
from harness.databases import connected

Json = dict[str, Any]
STOCKS = (0, 1, 1_000_000_000, STOCK_MAX - 1, STOCK_MAX)
TIMES = ("1000-01-01T00:00:00Z", "1000-01-01T00:00:00+14:00", "8999-12-31T23:59:59.999999-14:00")
NAMES = ("e\u0301" * 64, "\u2764\ufe0f", "\ufb2c", "a\u3000b")


class Checked:
    """A client that holds each response against the API document."""

    def __init__(self, client: httpx.AsyncClient, document: Json) -> None:
        self._client = client
        self._document = document

    async def call(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        response = await self._client.request(method, path, json=body)
        parts = ["{}" if part.isdigit() else part for part in path.split("?")[0].split("/")]
        [found] = [
            operations[method.lower()]
            for known, operations in self._document["paths"].items()
            if parts == ["{}" if part.startswith("{") else part for part in known.split("/")]
        ]
        [content] = found["responses"][str(response.status_code)]["content"].values()
        schema = content["schema"] | {"components": self._document["components"]}
        jsonschema_rs.validator_for(schema).validate(response.json())
        return response

    async def created(self, path: str, body: Json) -> Json:
        response = await self.call("POST", path, body)
        assert response.status_code == 201, response.text
        made: Json = response.json()
        return made

    async def written_back(self, path: str, *names: str) -> None:
        """What GET says of these fields is what PUT takes, and changes nothing."""
        row = (await self.call("GET", path)).json()
        response = await self.call("PUT", path, {name: row[name] for name in names})
        assert response.status_code == 200, response.text
        assert {**response.json(), "updated_at": None} == {**row, "updated_at": None}


@settings(
    max_examples=40,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    price=sampled_from(["0", "0.01", "9999999999.99"]),
    quantities=lists(sampled_from([1, 999_999, 1_000_000]), min_size=1, max_size=4),
    stocks=lists(sampled_from(STOCKS), max_size=3),
    ordered_at=sampled_from(TIMES),
    name=sampled_from(NAMES),
)
async def test_what_is_answered_fits_the_document_and_is_taken_again(
    client: httpx.AsyncClient,
    price: str,
    quantities: list[int],
    stocks: list[int],
    ordered_at: str,
    name: str,
) -> None:
    shop = Checked(client, (await client.get("/schema/openapi.json")).json())
    unique = uuid4().hex
    user = await shop.created("/users", {"username": unique, "email": f"{unique}@example.com"})
    address = await shop.created(f"/users/{user['id']}/addresses", ADDRESS | {"street": name})
    product = await shop.created(
        "/products", {"name": name, "price": price, "stock_quantity": 1_000_000_000}
    )
    lines = [{"product_id": product["id"], "quantity": quantity} for quantity in quantities]
    order = {"user_id": user["id"], "delivery_address_id": address["id"], "items": lines}
    dated = await shop.call("POST", "/orders", order | {"ordered_at": ordered_at})
    assert dated.status_code in {201, 422}
    placed = dated.json() if dated.status_code == 201 else await shop.created("/orders", order)
    again = await shop.created("/orders", order | {"ordered_at": placed["ordered_at"]})
    for stock in stocks:
        path = f"/products/{product['id']}"
        assert (await shop.call("PUT", path, {"stock_quantity": stock})).status_code == 200
    for order_id in (placed["id"], again["id"]):
        ended = await shop.call("PUT", f"/orders/{order_id}", {"status": "cancelled"})
        assert ended.status_code in {200, 409}
        assert ended.status_code == 200 or ended.json()["reason"] == "too-much-stock"
        await shop.call("GET", f"/orders/{order_id}")
    await shop.written_back(
        f"/products/{product['id']}", "sku", "name", "description", "price", "stock_quantity"
    )
    await shop.written_back(f"/users/{user['id']}", "username", "email", "description")
    await shop.written_back(f"/addresses/{address['id']}", *ADDRESS, "state", "zip_code")
    for path in ("/users", "/products", f"/orders?user_id={user['id']}"):
        await shop.call("GET", path)


async def test_rows_from_before_a_rule_fit_the_document(
    client: httpx.AsyncClient, database_url: str
) -> None:
    async with connected(database_url) as connection:
        await connection.execute(
            "INSERT INTO users (username, email) VALUES ($1, 'root@localhost')", "\u200b" * 70
        )
    shop = Checked(client, (await client.get("/schema/openapi.json")).json())
    for path in ("/users/1", "/users"):
        assert (await shop.call("GET", path)).status_code == 200
    renamed = await shop.call("PUT", "/users/1", {"description": "without a name"})
    assert renamed.status_code == 200
