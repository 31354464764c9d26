"""GET /orders/{order_id}/life: what became of an order, and why."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from app.container import Container
from app.repositories import reports
from app.repositories.order_lives import _MESSAGES
from app.schemas.orders import OrderStatus
from app.schemas.types import ID_MAX
from harness.databases import connected
from harness.queues import QueueClient
from harness.reports import DAY, NOON, build, messages
from harness.shop import Shop
from tests.integration.conftest import Outcome

_PAGE = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def _life(client: httpx.AsyncClient, order_id: int) -> Any:
    response = await client.get(f"/orders/{order_id}/life")
    assert response.status_code == 200, response.text
    return response.json()


async def test_an_order_over_http(
    container: Container, client: httpx.AsyncClient, shop: Shop
) -> None:
    tea, rice = await shop.product(), await shop.product()
    body = shop.order_body((tea, 2), (rice, 3), ordered_at=NOON)
    order = (await client.post("/orders", json=body)).json()
    life = await _life(client, order["id"])
    assert life["order"] == order and life["report"] is None
    assert life["statuses"] == [{"status": "pending", "at": order["created_at"], "message": None}]
    assert life["search_for"] == [f"/orders/{order['id']}"]

    await build(container)
    for status in ("processing", "cancelled"):
        changed = await client.put(f"/orders/{order['id']}", json={"status": status})
        assert changed.status_code == 200
    life = await _life(client, order["id"])
    assert [reached["status"] for reached in life["statuses"]] == [
        *("pending", "processing", "cancelled")
    ]
    times = [reached["at"] for reached in life["statuses"]]
    assert times == sorted(times) and times[-1] == changed.json()["updated_at"]
    moved = [(m["product_id"], m["reason"], m["quantity"]) for m in life["stock_movements"]]
    assert sorted(moved) == sorted(
        [(tea, "order", -2), (rice, "order", -3), (tea, "cancellation", 2)]
        + [(rice, "cancellation", 3)]
    )
    (row,) = (await client.get(f"/report?report_date={DAY}")).json()
    assert life["report"] == {**row, "message_id": f"report:{DAY}:1"}
    assert life["search_for"] == [f"/orders/{order['id']}", f"report:{DAY}:1"]


@pytest.mark.parametrize("transport", ["rabbitmq", "streams"])
@pytest.mark.usefixtures("consumers")
async def test_orders_from_the_queue_name_their_messages(
    client: httpx.AsyncClient, shop: Shop, queues: QueueClient, outcome: Outcome, database_url: str
) -> None:
    """Of many that were placed in one transaction, too, and after failed attempts."""
    product_id = await shop.product()
    sent = [f"place-{n}" for n in range(20)]
    for message_id in sent:
        await queues.send("order", shop.order_body((product_id, 1)), message_id)
    ids = {message_id: (await outcome(message_id))["result_id"] for message_id in sent}
    first = ids["place-0"]
    await queues.send("order_update", {"order_id": first, "status": "processing"}, "step")
    await outcome("step")
    await client.put(f"/orders/{first}", json={"status": "shipped"})
    async with connected(database_url) as connection:
        await connection.execute(
            "UPDATE messages SET first_seen_at = first_seen_at - interval '1 hour', attempts = 2"
            " WHERE message_id IN ('place-1', 'step')"
        )
    for message_id in sent:
        placed, *changes = (await _life(client, ids[message_id]))["statuses"]
        assert placed["message"] == (await client.get(f"/messages/{message_id}")).json()
        if message_id == "place-0":
            step, shipped = changes
            assert step["message"] == (await client.get("/messages/step")).json()
            assert shipped["message"] is None
    life = await _life(client, first)
    assert life["search_for"] == [f"/orders/{first}", "place-0", "step"]
    assert "after 2 failed attempts" in (await _page(client, first))


@pytest.mark.parametrize("transport", ["streams"])
async def test_the_message_that_told_of_it(
    container: Container,
    client: httpx.AsyncClient,
    shop: Shop,
    queues: QueueClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a part of a run has several messages, and a day several parts."""
    monkeypatch.setattr(reports, "ROWS_PER_MESSAGE", 2)
    product_id = await shop.product()
    await build(container)
    for count in (5, 1, 4):
        for _ in range(count):
            await shop.order((product_id, 1), ordered_at=NOON)
        await build(container)
    told = {
        row["order_id"]: message.message_id
        for message in await messages(queues)
        for row in message.json["reports"]
    }
    assert len(told) == 10 and f"report:{DAY}:4:2" in told.values()
    found = {id: (await _life(client, id))["report"]["message_id"] for id in told}
    assert found == told


async def test_orders_from_before_changes_were_kept(
    client: httpx.AsyncClient, shop: Shop, database_url: str
) -> None:
    order = await shop.order((await shop.product(), 1))
    await shop.change_status(order.id, OrderStatus.PROCESSING, OrderStatus.SHIPPED)
    async with connected(database_url) as connection:
        await connection.execute("DELETE FROM order_status_changes")
    life = await _life(client, order.id)
    reached = [(status["status"], status["at"]) for status in life["statuses"]]
    assert reached == [
        ("pending", life["order"]["created_at"]),
        ("shipped", life["order"]["updated_at"]),
    ]


async def test_whoever_changes_a_status_leaves_a_trace(
    client: httpx.AsyncClient, shop: Shop, database_url: str
) -> None:
    """As the release before does, and psql."""
    order = await shop.order((await shop.product(), 1))
    async with connected(database_url) as connection:
        for status in ("processing", "processing", "shipped"):
            await connection.execute("UPDATE orders SET status = $1", status)
        await connection.execute("UPDATE orders SET external_id = 'x'")
    statuses = (await _life(client, order.id))["statuses"]
    assert [status["status"] for status in statuses] == ["pending", "processing", "shipped"]


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
async def test_an_order_that_does_not_exist(client: httpx.AsyncClient, accept: str) -> None:
    for order_id, status in ((77, 404), (ID_MAX, 404), (0, 422), ("01", 404), ("x", 404)):
        response = await client.get(f"/orders/{order_id}/life", headers={"Accept": accept})
        assert response.status_code == status
        # No route is found for "x", and so nothing that has a page.
        is_page = accept == "text/html" and order_id != "x"
        kind = "text/html; charset=utf-8" if is_page else "application/problem+json"
        assert response.headers["content-type"] == kind


async def _page(client: httpx.AsyncClient, order_id: int) -> str:
    response = await client.get(f"/orders/{order_id}/life", headers=_PAGE)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["vary"] == "Accept"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    return response.text


async def test_the_same_as_a_page(
    container: Container, client: httpx.AsyncClient, shop: Shop
) -> None:
    product_id = await shop.product(price="19.90")
    lines = [(product_id, 2)]
    order = await shop.order(*lines, ordered_at=NOON, external_id="<script>alert(1)</script>")
    assert "No report has this order yet" in await _page(client, order.id)
    await build(container)
    page = await _page(client, order.id)
    for told in (
        f"Order {order.id}",
        "pending",
        "39.80",
        "Obere Str. 57, Berlin",
        f"report:{DAY}:1",
    ):
        assert told in page
    assert "&lt;script&gt;alert(1)" in page and "<script" not in page
    assert "None" not in page and "http://" not in page and "https://" not in page
    style = await client.get(f"/orders/{order.id}/../../docs/assets/page.css")
    assert style.status_code == 200 and "prefers-color-scheme: dark" in style.text


async def test_a_page_is_found_behind_a_prefix(client: httpx.AsyncClient, shop: Shop) -> None:
    """Its links are relative, so a proxy may put any path in front."""
    page = await _page(client, (await shop.order((await shop.product(), 1))).id)
    links: Sequence[str] = [part.partition('"')[0] for part in page.split('href="')[1:]]
    assert links and all(link.startswith(("../../", "#")) for link in links)


async def test_messages_are_found_by_indexes(database_url: str) -> None:
    """Whatever the plan: it is made without the values."""
    query = str(_MESSAGES)
    for number, name in enumerate(("times", "order_id", "queues"), 1):
        query = query.replace(f":{name}", f"${number}")
    async with connected(database_url) as connection:
        await connection.execute("SET enable_seqscan = off")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE found (timestamptz[], bigint, text[]) AS {query}")
        plan = await connection.fetch("EXPLAIN EXECUTE found ('{}', 1, '{}')")
    text = "\n".join(row[0] for row in plan)
    assert "ix_messages_first_seen_at" in text and "ix_messages_finished_later" in text
