"""What a line says, so that an order, a product or a message can be found in the log."""

from typing import Any

import httpx
from structlog.testing import capture_logs

from app.queues import Queue
from harness.queues import QueueClient
from harness.shop import Shop


async def _line(client: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    with capture_logs() as lines:
        await client.request(method, path, json=body)
    (line,) = [line for line in lines if line["event"] == "request"]
    return {name: value for name, value in line.items() if name not in ("milliseconds", "event")}


async def test_the_path_of_a_request_and_of_what_it_created(
    client: httpx.AsyncClient, shop: Shop
) -> None:
    product_id = await shop.product(stock=1)
    body = shop.order_body((product_id, 1))
    placed = await _line(client, "POST", "/orders", body)
    assert (placed["status"], placed["path"]) == (201, "/orders")
    order = placed["location"]
    assert (await client.get(order)).status_code == 200
    read = await _line(client, "GET", order)
    assert (read["route"], read["path"]) == ("/orders/{order_id}", order)


async def test_why_a_request_was_refused(client: httpx.AsyncClient, shop: Shop) -> None:
    product_id = await shop.product(stock=1)
    refused = await _line(client, "POST", "/orders", shop.order_body((product_id, 2)))
    assert (refused["status"], refused["reason"]) == (409, "out-of-stock")
    assert f"product {product_id} (wanted 2, in stock 1)" in refused["detail"]
    unknown = await _line(client, "GET", "/orders/77")
    assert (unknown["reason"], unknown["detail"]) == ("not-found", "order 77 does not exist")
