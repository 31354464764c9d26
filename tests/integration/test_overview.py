"""The status page: what it tells, and how little it asks for."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from app.container import Container
from app.queues import Queue
from app.rest.asgi.limiter import needs_place
from app.runtime.loops import end
from app.schemas.orders import OrderStatus
from app.services import overview as module
from harness.databases import connected
from harness.queues import QueueClient
from harness.shop import Shop
from harness.waiting import eventually
from tests.integration.conftest import Outcome

HTML = {"Accept": "text/html"}


@pytest.fixture(autouse=True)
def _always_renewed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """But for tests that are about it, each look is a new one."""
    if "_shared" not in request.fixturenames:
        monkeypatch.setattr(module, "_FRESH_SECONDS", 0.0)


@pytest.fixture
def _shared() -> None:
    """A snapshot is as fresh as in the service."""


@contextmanager
def _statements() -> Iterator[list[str]]:
    """Those about orders that are executed meanwhile."""
    executed: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM orders" in statement:
            executed.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield executed
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def _asked(client: httpx.AsyncClient) -> dict[str, Any]:
    response = await client.get("/")
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told


async def _told(client: httpx.AsyncClient) -> dict[str, Any]:
    """By looks that have found everything: on a busy machine one may come to nothing."""

    async def well() -> dict[str, Any] | None:
        told = await _asked(client)
        looks = [told[name] for name in ("shop", "queues", "outbox")]
        parts = {part["status"] for part in told["parts"]}
        return told if parts == {"ok"} and all(look and look["current"] for look in looks) else None

    found: dict[str, Any] = await eventually(well)
    return found


async def test_orders_of_today_by_status_and_minute(
    client: httpx.AsyncClient, shop: Shop, container: Container
) -> None:
    product_id = await shop.product(stock=100)
    for _ in range(3):
        placed = await shop.order((product_id, 2))
    await shop.change_status(placed.id, OrderStatus.CANCELLED)
    today = container.calendar.begins(container.calendar.today())
    await shop.order((product_id, 1), ordered_at=today - timedelta(seconds=1))
    await shop.order((product_id, 1), ordered_at=datetime.now(UTC) + timedelta(days=3))
    orders = (await _told(client))["shop"]["orders"]
    assert orders["by_status"] == {
        **dict.fromkeys(OrderStatus, 0),
        OrderStatus.PENDING: 2,
        OrderStatus.CANCELLED: 1,
    }
    assert (orders["total"], orders["dated_back"], orders["complete"]) == (3, 1, True)
    assert len(orders["last_hour"]) == 60 and 3 <= sum(orders["last_hour"]) <= 4
    assert sum(orders["last_hour"][-3:]) >= 3
    assert [order["id"] for order in orders["last"]][-1] == placed.id - 2


async def test_too_many_orders_to_count_are_told_as_such(
    client: httpx.AsyncClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    product_id = await shop.product()
    for _ in range(3):
        await shop.order((product_id, 1))
    for name in ("app.repositories.overview.MOST_COUNTED", "app.services.overview.MOST_COUNTED"):
        monkeypatch.setattr(name, 2)
    orders = (await _told(client))["shop"]["orders"]
    assert (orders["total"], orders["complete"]) == (2, False)
    assert "2 and more" in (await client.get("/", headers=HTML)).text


async def test_what_is_nearly_out_of_stock(client: httpx.AsyncClient, shop: Shop) -> None:
    none, five, two, _ = [await shop.product(stock) for stock in (0, 5, 2, 6)]
    stock = (await _told(client))["shop"]["stock"]
    assert (stock["out_of_stock"], stock["nearly"]) == (1, 2)
    assert [product["id"] for product in stock["products"]] == [two, five, none]


@pytest.mark.usefixtures("consumers")
@pytest.mark.parametrize("transport", ["rabbitmq", "streams"])
async def test_messages_that_were_not_applied_and_their_story(
    client: httpx.AsyncClient,
    queues: QueueClient,
    outcome: Outcome,
    transport: str,
) -> None:
    await queues.send(Queue.PRODUCT, {"name": "Tea", "price": "1", "stock_quantity": 1}, "good")
    await queues.send(Queue.PRODUCT, {"name": "Tea", "price": "dear"}, "a//<b>&c")
    order = {"user_id": 9, "delivery_address_id": 1, "items": [{"product_id": 1, "quantity": 1}]}
    await queues.send(Queue.ORDER, order, "refused")
    for message_id in ("good", "refused"):
        await outcome(message_id)
    while len(messages := (await _told(client))["shop"]["messages"]) < 2:
        await asyncio.sleep(0.02)
    by_id = {message["message_id"]: message for message in messages}
    assert {id: message["status"] for id, message in by_id.items()} == {
        "a//<b>&c": "dead",
        "refused": "rejected",
    }
    page = (await client.get("/", headers=HTML)).text
    assert "user 9 does not exist" in page
    assert "a//&lt;b&gt;&amp;c</a>" in page
    link = "messages?queue=product&amp;id=a//%3Cb%3E%26c"
    assert link in page
    found = await client.get("/" + link.replace("&amp;", "&"))
    assert [message["message_id"] for message in found.json()["messages"]] == ["a//<b>&c"]
    assert {"rabbitmq": "RabbitMQ", "streams": "Valkey streams"}[transport] in page


async def test_what_is_wrong_stands_on_top_with_the_words_of_the_doctor(
    client: httpx.AsyncClient, database_url: str
) -> None:
    assert (await _told(client))["problems"] == []
    assert '<h1 role="status">All is well</h1>' in (await client.get("/", headers=HTML)).text
    async with connected(database_url) as connection:
        await connection.execute("UPDATE installation SET started_at = now() - interval '3 days'")
    [line] = (await _told(client))["problems"]
    assert line.startswith("report days are not built, 3 in all: start the taskiq worker")
    page = (await client.get("/", headers=HTML)).text
    assert (
        page.index("1 thing is wrong")
        < page.index("report days are not built")
        < page.index("Orders today")
    )
    assert "<code>python -m app report build</code>" in page


async def test_the_nights_that_were_built(
    client: httpx.AsyncClient, container: Container, shop: Shop
) -> None:
    today = container.calendar.today()
    await shop.order((await shop.product(), 3))
    for day in (today - timedelta(days=1), today):
        (await client.post(f"/report?report_date={day}")).raise_for_status()
    *earlier, yesterday, running = (await _told(client))["shop"]["reports"]["days"]
    assert (len(earlier), earlier[-1]["built_at"]) == (12, None)
    assert yesterday["closed"] and yesterday["built_at"] is not None
    assert (running["closed"], running["orders"], running["units"]) == (False, 1, 3)


async def test_how_often_the_cache_had_it(client: httpx.AsyncClient, shop: Shop) -> None:
    before = (await _told(client))["cache"]
    product_id = await shop.product()
    for _ in range(3):
        assert (await client.get(f"/products/{product_id}")).status_code == 200
    after = (await _told(client))["cache"]
    assert after["reads"] - before["reads"] == 3
    assert before["hits"] <= after["hits"] <= before["hits"] + 2


async def test_who_asks_again_gets_what_has_changed(client: httpx.AsyncClient, shop: Shop) -> None:
    for headers in (HTML, {}):
        first = await client.get("/", headers=headers)
        assert first.headers["etag"].startswith('W/"')
        known = {**headers, "If-None-Match": first.headers["etag"]}
        await _same_minute_again(client, known)
        await shop.order((await shop.product(), 1))
        changed = await client.get("/", headers=known)
        assert changed.status_code == 200
        assert changed.headers["etag"] != first.headers["etag"]


async def _same_minute_again(client: httpx.AsyncClient, known: dict[str, str]) -> None:
    """304, unless a minute began between the two, or a look came to nothing: then what is asked
    next is."""

    async def unchanged() -> bool:
        again = await client.get("/", headers=known)
        known["If-None-Match"] = again.headers["etag"]
        return (again.status_code, again.content) == (304, b"")

    await eventually(unchanged)


@pytest.mark.usefixtures("_shared")
async def test_five_hundred_at_once_cost_one_look(client: httpx.AsyncClient, shop: Shop) -> None:
    await shop.order((await shop.product(), 1))
    with _statements() as statements:
        pages = await asyncio.gather(*(client.get("/", headers=HTML) for _ in range(500)))
    assert {page.status_code for page in pages} == {200}
    assert len({page.text for page in pages}) == 1
    assert len(statements) == len(set(statements)) == 4
    with _statements() as statements:
        await asyncio.gather(*(client.get("/") for _ in range(100)))
    assert not statements


@pytest.mark.usefixtures("_shared")
async def test_who_leaves_ends_no_look_of_others(client: httpx.AsyncClient) -> None:
    with _statements() as statements:
        asking = [asyncio.create_task(client.get("/")) for _ in range(10)]
        while not statements:
            await asyncio.sleep(0)
        await end(asking[:9])
        assert (await asking[9]).status_code == 200
    assert len(statements) == 4


async def test_a_look_that_takes_long_is_not_waited_for(
    client: httpx.AsyncClient, database_url: str
) -> None:
    """Nor is there a second one beside it. What is not known is told as such."""
    async with connected(database_url) as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE orders")
        with _statements() as statements:
            for _ in range(2):
                told = await _asked(client)
                assert told["shop"] is None and told["queues"]["current"]
        assert len(set(statements)) == 1
        assert "has not answered yet" in (await client.get("/", headers=HTML)).text
    assert (await _told(client))["shop"]


def test_it_takes_no_place() -> None:
    """Who looks for what is wrong must see it while too many others wait."""
    assert not needs_place("GET", "/")
    assert needs_place("GET", "/users")
