"""The status page and its neighbours in a browser that reaches nothing but the service."""

# pylint: disable=redefined-outer-name

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser

from app.client.stack import running_stack
from app.messaging.broker import Outgoing
from app.messaging.opening import open_broker
from app.queues import Queue
from app.settings import Settings
from harness.browser import DESK, TELEPHONE, Tab, browsing
from harness.service import Service, one_command
from harness.tree import copy_tree, edit
from harness.waiting import eventually

# LOUD: these are faults of Swagger UI and AsyncAPI's component, whose bundles are served as they
# are: too little contrast, buttons in buttons, a choice without a name, text between the items of
# a list. They are left to their authors; everything else on those pages is judged.
FOREIGN = {
    "/docs": ("color-contrast", "nested-interactive", "select-name"),
    "/docs/queues": ("color-contrast", "list:"),
}
# /report/chart.svg is a picture without a page.
PAGES = ["/", "/orders/1/life", "/dead-letters", "/dead-letters/order", "/docs/queues", "/docs"]
# What scripts make after the page has loaded.
_MADE = {"/docs": ".opblock", "/docs/queues": "text=protects from a second effect"}
_FOCUSED = """() => {
    const {outlineStyle, outlineWidth} = getComputedStyle(document.activeElement);
    const controls = [...document.querySelectorAll("a[href]")];
    return [controls.indexOf(document.activeElement),
            outlineStyle !== "none" && outlineWidth !== "0px"];
}"""


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its status page renews itself every second, not every five. A page is idle for half a second
    before a test takes it for loaded."""
    tree = copy_tree(tmp_path_factory.mktemp("lively"))
    edit(tree, "app/assets/pages/live.js", "PAUSE_MS = 5000", "PAUSE_MS = 1000")
    edit(tree, "app/services/overview.py", "_FRESH_SECONDS = 3.0", "_FRESH_SECONDS = 0.5")
    return tree


@pytest.fixture(scope="module")
async def service(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """With orders, a report, a product nearly out of stock, a rejected message and a dead one."""
    directory = tmp_path_factory.mktemp("service")
    async with one_command(tree, directory) as running:
        await running.script("producer.py")
        for path, body in (
            ("/products", {"name": "Rare tea", "price": "1.00", "stock_quantity": 1}),
            ("/report", None),
        ):
            (await running.api.post(path, json=body)).raise_for_status()
        settings = running_stack(Settings(_env_file=None, data_dir=directory / "data"))
        broker = open_broker(settings)
        await broker.publish(Outgoing(Queue.ORDER, b'{"user_id": 1}', "poison"))
        refused = b'{"order_id": 1, "status": "pending"}'
        await broker.publish(Outgoing(Queue.ORDER_UPDATE, refused, "refused"))
        await broker.close()

        async def settled() -> bool:
            messages = (await running.api.get("/")).json()["shop"]["messages"]
            return len(messages) == 2

        await eventually(settled)
        yield running


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [TELEPHONE, DESK], ids=["telephone", "desk"])
@pytest.mark.parametrize("path", PAGES)
async def test_it_fits_and_axe_finds_nothing(
    service: Service, chromium: Browser, axe: str, path: str, size: dict[str, int], dark: bool
) -> None:
    async with browsing(chromium, size, dark=dark) as tab:
        await tab.page.goto(service.url + path, wait_until="networkidle")
        await tab.page.locator(_MADE.get(path, "main")).first.wait_for()
        assert not await tab.is_wider_than_its_window()
        faults = await tab.faults(axe)
        assert [f for f in faults if not f.startswith(FOREIGN.get(path, ()))] == []
        assert not tab.troubles


@pytest.mark.parametrize("path", ["/", "/orders/1/life"])
async def test_the_keyboard_reaches_every_link_and_the_focus_is_seen(
    service: Service, chromium: Browser, path: str
) -> None:
    async with browsing(chromium) as tab:
        await tab.open(service.url + path)
        links = await tab.page.locator("a[href]").count()
        for number in range(links):
            await tab.page.keyboard.press("Tab")
            while not await tab.page.evaluate("document.activeElement.matches('a[href]')"):
                await tab.page.keyboard.press("Tab")
            assert await tab.page.evaluate(_FOCUSED) == [number, True]


async def test_without_javascript_all_is_there(service: Service, chromium: Browser) -> None:
    async with browsing(chromium, scripts=False) as tab:
        await tab.open(service.url)
        text = await tab.text()
        for told in ("Orders today", "Rare tea", "refused", "poison", "product_update", "works"):
            assert told in text
        assert not tab.troubles


async def test_it_renews_itself_and_keeps_focus_and_place(
    service: Service, chromium: Browser
) -> None:
    async with browsing(chromium, TELEPHONE) as tab:
        page = tab.page
        statuses: list[int] = []
        page.on("response", lambda response: statuses.append(response.status))
        await tab.open(service.url)
        link = page.get_by_role("link", name="Rare tea")
        await link.focus()
        await link.evaluate("element => { window.focused = element }")
        before = await link.evaluate("element => element.getBoundingClientRect().top")
        await eventually(lambda: 304 in statuses)
        await _add(service, "White tea")
        await page.get_by_role("link", name="White tea").wait_for()
        assert await page.evaluate("document.activeElement === window.focused")
        after = await link.evaluate("element => element.getBoundingClientRect().top")
        assert abs(before - after) < 2
        assert not tab.troubles


async def test_it_changes_nothing_while_text_is_selected_or_the_tab_is_hidden(
    service: Service, chromium: Browser
) -> None:
    async with browsing(chromium) as tab, browsing(chromium) as other:
        await tab.open(service.url)
        await tab.page.evaluate("getSelection().selectAllChildren(document.querySelector('h1'))")
        await _add(service, "Selected tea")
        await other.open(service.url)
        await other.page.get_by_role("link", name="Selected tea").wait_for()
        await tab.page.get_by_text("Waits while text is selected.").wait_for()
        assert not await tab.page.get_by_role("link", name="Selected tea").count()
        await tab.page.evaluate("getSelection().removeAllRanges()")
        await tab.page.get_by_role("link", name="Selected tea").wait_for()

        asked: list[str] = []
        await _hide(tab, True)
        tab.page.on("request", lambda request: asked.append(request.url))
        renewed: list[str] = []
        other.page.on("request", lambda request: renewed.append(request.url))
        await eventually(lambda: len(renewed) == 2)  # by then the first would have asked too
        assert not asked
        await _hide(tab, False)
        await eventually(lambda: asked)


async def _hide(tab: Tab, hidden: bool) -> None:
    value = "true" if hidden else "false"
    await tab.page.evaluate(
        f"Object.defineProperty(document, 'hidden', {{value: {value}, configurable: true}}); "
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


async def _add(service: Service, name: str) -> None:
    body = {"name": name, "price": "1.00", "stock_quantity": 1}
    (await service.api.post("/products", json=body)).raise_for_status()


async def test_it_says_that_the_service_has_gone(
    tree: Path, tmp_path: Path, chromium: Browser
) -> None:
    async with one_command(tree, tmp_path) as gone, browsing(chromium) as tab:
        await tab.open(gone.url)
        await gone.web.stop()
        await tab.page.get_by_text("The service does not answer.").wait_for()
        assert "Orders today" in await tab.text()
        with pytest.raises(httpx.TransportError):
            await gone.api.get("/")
