"""Dead letters in a browser: looked at, sent again and dropped, behind the login."""

# pylint: disable=redefined-outer-name

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser

from app import worker
from app.container import Container
from app.queues import Queue
from app.services import dead_letters
from harness.browser import DESK, TELEPHONE, Tab, browsing
from harness.dependencies import Dependencies
from harness.queues import QueueClient
from harness.served import Served, as_served
from harness.shop import Shop

KEY = "k" * 32
PRODUCT = {"sku": "TEA-001", "name": "Tea", "price": "1.00", "stock_quantity": 1}
WHY = {
    "x-reason": "validation",
    "x-detail": "price: must be a number",
    "x-field": "price",
    "x-attempts": "1",
    "x-first-seen": "2026-11-20T12:30:00.123456+00:00",
}
EVIL = "http://evil.test"


@pytest.fixture
async def served(container: Container) -> AsyncIterator[Served]:
    async with as_served(container) as server:
        yield server


@pytest.fixture
async def locked(dependencies: Dependencies) -> AsyncIterator[Served]:
    settings = dependencies.settings(api_key=KEY, allowed_hosts="localhost,shop.test")
    async with Container.open(settings) as container, as_served(container) as server:
        yield server


@pytest.fixture
async def tab(chromium: Browser) -> AsyncIterator[Tab]:
    async with browsing(chromium) as opened:
        yield opened


async def _opened(tab: Tab, server: Served, queue: Queue, message_id: str) -> None:
    """The page of a letter, by way of the lists."""
    await tab.open(f"http://localhost:{server.port}/dead-letters")
    await tab.press(queue, "link")
    await tab.press(message_id, "link")


async def _send_again(tab: Tab) -> None:
    await tab.press("Send it again…", "link")
    await tab.press("Send it again")


@pytest.mark.parametrize("transport", ["rabbitmq", "streams"])
async def test_what_a_retry_did_is_shown(
    container: Container, shop: Shop, queues: QueueClient, served: Served, tab: Tab
) -> None:
    order = shop.order_body((await shop.product(), 2))
    unknown = {**order, "user_id": shop.user_id + 1000}
    sent: dict[str, tuple[Queue, Any, str]] = {
        "good": (Queue.PRODUCT, PRODUCT, "Applied: product"),
        "paid": (Queue.ORDER, order, "Applied: order"),
        "lost": (Queue.ORDER, unknown, "Rejected: not-found"),
        "bad": (Queue.PRODUCT, b"{", "Dead again: decode"),
    }
    for message_id, (queue, body, _) in sent.items():
        await queues.send(queue.dead, body, message_id, headers=WHY)
    async with worker.consuming(container):
        for message_id, (queue, _, told) in sent.items():
            await _opened(tab, served, queue, message_id)
            await _send_again(tab)
            assert told in await tab.text()
            await tab.page.reload()
            assert told in await tab.text()
            if message_id == "paid":
                await tab.press("order 1", "link")
                assert (await tab.page.title()).startswith("Order 1")
    assert await queues.count(Queue.PRODUCT.dead) == 1
    assert await queues.count(Queue.ORDER.dead) == 0
    assert not tab.troubles


async def test_an_id_that_another_body_has_used_is_not_that_bodys_outcome(
    container: Container, queues: QueueClient, served: Served, tab: Tab
) -> None:
    async with worker.consuming(container):
        await queues.send(Queue.PRODUCT, PRODUCT, "twice")
        await queues.send(Queue.PRODUCT, {**PRODUCT, "sku": "TEA-002"}, "twice")
        await queues.take(Queue.PRODUCT.dead)
        await queues.send(Queue.PRODUCT.dead, {**PRODUCT, "sku": "TEA-003"}, "twice")
        await _opened(tab, served, Queue.PRODUCT, "twice")
        await _send_again(tab)
        assert "Dead again: id-reused" in await tab.text()


async def test_before_a_worker_has_taken_it(
    queues: QueueClient, served: Served, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_OUTCOME_SECONDS", 0)
    await queues.send(Queue.PRODUCT.dead, PRODUCT, None, headers=WHY)
    await _opened(tab, served, Queue.PRODUCT, "(no id)")
    await _send_again(tab)
    assert "Not known yet." in await tab.text()
    assert (await queues.take(Queue.PRODUCT)).message_id  # it has one now


@pytest.mark.parametrize("transport", ["rabbitmq", "streams"])
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
async def test_a_page_that_is_loaded_again_does_nothing_twice(
    queues: QueueClient, served: Served, chromium: Browser, scripts: bool
) -> None:
    for message_id in ("a", "b", "c"):
        await queues.send(Queue.PRODUCT.dead, b"{", message_id, headers=WHY)
    async with browsing(chromium, scripts=scripts) as tab:
        await tab.open(f"http://localhost:{served.port}/dead-letters/product")
        await tab.press("a", "link")
        letter = tab.page.url
        await tab.press("Drop it…", "link")
        await tab.press("Leave it as it is", "link")
        assert tab.page.url == letter
        await tab.press("Drop it…", "link")
        await tab.press("Drop it")
        await tab.page.reload()
        assert "gone from the dead letters of product" in await tab.text()
        assert await queues.count(Queue.PRODUCT.dead) == 2
        assert not tab.troubles
        for action in ("confirm-drop", "confirm-retry"):
            await tab.open(f"{letter}/{action}")
            assert "Not found" in await tab.text()
            assert "sent it again or dropped it" in await tab.text()
    assert await queues.count(Queue.PRODUCT.dead) == 2
    assert await queues.count(Queue.PRODUCT) == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESK, TELEPHONE], ids=["a desk", "a telephone"])
async def test_every_page_fits_and_axe_finds_nothing(
    queues: QueueClient,
    served: Served,
    locked: Served,
    chromium: Browser,
    axe: str,
    size: dict[str, int],
    dark: bool,
) -> None:
    long = "x" * 200
    await queues.send(Queue.PRODUCT.dead, long.encode(), long, headers={**WHY, long: long})
    async with browsing(chromium, size, dark=dark) as tab:
        root = f"http://localhost:{served.port}"
        await tab.open(f"{root}/dead-letters/product")
        await tab.press(long, "link")
        letter = tab.page.url
        pages = [f"{root}/dead-letters", f"{root}/dead-letters/order", letter]
        pages += [f"{letter}/{end}" for end in ("confirm-retry", "confirm-drop", "dropped")]
        for page in [*pages, f"{root}/logout", f"http://localhost:{locked.port}/login"]:
            assert (await tab.open(page)).status == 200, page
            assert not await tab.is_wider_than_its_window(), page
            assert not await tab.faults(axe), page
        assert "There are none." not in await tab.text()
        await tab.open(f"{root}/dead-letters/order")
        assert "There are none." in await tab.text()
        assert not tab.troubles
        await tab.open(f"{letter}/retried?id=unknown")
        assert not await tab.faults(axe)
        assert (await tab.open(f"{root}/dead-letters/order/{'0' * 32}")).status == 404
        assert not await tab.is_wider_than_its_window()
        assert not await tab.faults(axe)


async def test_without_rabbitmq_the_page_says_so(dependencies: Dependencies, tab: Tab) -> None:
    settings = dependencies.settings(
        queue_transport="rabbitmq", rabbitmq_host="127.0.0.1", rabbitmq_port=1
    )
    async with Container.open(settings) as container, as_served(container) as served:
        for path in ("dead-letters", "dead-letters/order", f"dead-letters/order/{'0' * 32}"):
            response = await tab.open(f"http://localhost:{served.port}/{path}")
            assert response.status == 503
            assert "Not available at this moment" in await tab.text()
            assert "RabbitMQ" in await tab.text()


# Only the first gets Sec-Fetch-Site: the other is no localhost and has no TLS.
@pytest.mark.parametrize("host", ["localhost", "shop.test"])
async def test_the_login(locked: Served, queues: QueueClient, tab: Tab, host: str) -> None:
    await queues.send(Queue.PRODUCT.dead, b"{", "a", headers=WHY)
    page = f"http://{host}:{locked.port}/dead-letters/product"
    assert (await tab.open(page)).status == 401
    await tab.page.get_by_label("API key").fill("wrong")
    await tab.press("Log in")
    assert "This is not the key" in await tab.text()
    await tab.page.get_by_label("API key").fill(KEY)
    tab.troubles.clear()  # the two pages with status 401
    await tab.press("Log in")
    assert tab.page.url == page
    await tab.press("a", "link")
    await tab.press("Drop it…", "link")
    await tab.press("Drop it")
    assert await queues.count(Queue.PRODUCT.dead) == 0
    assert await tab.page.evaluate("document.cookie") == ""
    await tab.press("Log out", "link")
    await tab.press("Log out")
    assert not tab.troubles
    assert (await tab.open(page)).status == 401


@pytest.mark.parametrize("host", ["localhost", "shop.test"])
@pytest.mark.parametrize("action", ["confirm-drop", "confirm-retry", "retry"])
async def test_a_page_of_another_origin_cannot_do_it(
    locked: Served, queues: QueueClient, tab: Tab, host: str, action: str
) -> None:
    """Though the same browser has a session."""
    await queues.send(Queue.PRODUCT.dead, b"{", "a", headers=WHY)
    root = f"http://{host}:{locked.port}"
    await tab.open(f"{root}/dead-letters/product")
    await tab.page.get_by_label("API key").fill(KEY)
    await tab.press("Log in")
    await tab.press("a", "link")
    target = f"{tab.page.url}/{action}"
    form = f'<form method="post" action="{target}"><button>Win a prize</button></form>'
    for elsewhere in (EVIL, f"http://sub.{host}:{locked.port + 1}"):
        await tab.page.route(
            f"{elsewhere}/**", lambda route: route.fulfill(body=form, content_type="text/html")
        )
        await tab.open(f"{elsewhere}/prize")
        async with tab.page.expect_response(target) as response:
            await tab.page.get_by_role("button").click()
        assert (await response.value).status == 403
    assert await queues.count(Queue.PRODUCT.dead) == 1
    assert await queues.count(Queue.PRODUCT) == 0
