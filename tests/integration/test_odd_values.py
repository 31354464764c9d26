"""Values that look odd and are valid: they are stored and come back as they were."""

import httpx
import pytest


@pytest.mark.parametrize("number", ["5", "5.0", "0.5e1"])
async def test_json_has_one_kind_of_number(client: httpx.AsyncClient, number: str) -> None:
    body = f'{{"name": "Tea", "price": {number}, "stock_quantity": {number}}}'
    headers = {"Content-Type": "application/json"}
    made = (await client.post("/products", content=body, headers=headers)).json()
    assert (made["price"], made["stock_quantity"]) == ("5.00", 5)


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE products; --",
        '" OR 1=1',
        "%_\\",
        "$1 :name %(x)s {0}",
        "zq9<script>",
    ],
)
async def test_odd_text_is_only_text(client: httpx.AsyncClient, text: str) -> None:
    product = {"name": text, "description": text, "price": "9.90", "stock_quantity": 5}
    path = f"/products/{(await client.post('/products', json=product)).json()['id']}"
    responses = [await client.get(path), await client.get(path)]
    responses.append(await client.put(path, json={"name": text}))
    for response in responses:
        assert response.status_code == 200
        assert (response.json()["name"], response.json()["description"]) == (text, text)
