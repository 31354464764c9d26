"""A Chromium that a test drives: it fills in forms, presses keys and follows links. It reaches
nothing but this machine, under any name that ends in `.test` too."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, Response, async_playwright

_MISSING = "Chromium is missing: run `apt-get install -y chromium`"
DESK = {"width": 1440, "height": 900}
TELEPHONE = {"width": 390, "height": 844}
_FLAGS = (
    "--no-sandbox",
    "--disable-quic",
    "--host-resolver-rules="
    "MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)
_FAULTS = """async () => (await axe.run(document)).violations
    .filter(({impact}) => ["serious", "critical"].includes(impact))
    .flatMap(({id, nodes}) => nodes.map(({html}) => `${id}: ${html}`))"""


class Tab:
    """`troubles` is what went wrong: the console's errors, what a policy blocked, and what did not
    load. Chromium reports a page with an error status there too."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.troubles: list[str] = []
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("requestfailed", lambda request: self._note_failed(request.url, request.failure))

    def _note(self, message: ConsoleMessage) -> None:
        # Chromium asks for this by itself where no page names an icon: beside a picture, say.
        is_icon = message.location["url"].endswith("/favicon.ico")
        if message.type in ("error", "warning") and not is_icon:
            self.troubles.append(message.text)

    def _note_failed(self, url: str, why: str | None) -> None:
        if why != "net::ERR_ABORTED":  # the tab has gone on to another page
            self.troubles.append(f"{url}: {why}")

    async def open(self, url: str) -> Response:
        response = await self.page.goto(url)
        assert response
        return response

    async def text(self) -> str:
        return await self.page.locator("main").inner_text()

    async def press(self, name: str, role: Any = "button") -> None:
        """By keyboard: Tab until the control has the focus, then Enter. Waits for the page that
        comes of it."""
        control = self.page.get_by_role(role, name=name, exact=True)
        await control.wait_for()
        for _ in range(100):
            if await control.evaluate("element => element === document.activeElement"):
                break
            await self.page.keyboard.press("Tab")
        else:
            raise AssertionError(f"the keyboard does not reach {name}")
        async with self.page.expect_navigation():
            await self.page.keyboard.press("Enter")

    async def faults(self, axe: str) -> list[str]:
        """What axe finds serious or critical. `axe` is its source."""
        await self.page.evaluate(axe)
        found: list[str] = await self.page.evaluate(_FAULTS)
        return found

    async def is_wider_than_its_window(self) -> bool:
        wide: bool = await self.page.evaluate(
            "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        return wide


@asynccontextmanager
async def chromium_started() -> AsyncIterator[Browser]:
    program = shutil.which("chromium")
    assert program, _MISSING
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=_FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def browsing(
    browser: Browser,
    size: dict[str, int] | None = None,
    *,
    dark: bool = False,
    scripts: bool = True,
) -> AsyncIterator[Tab]:
    """A tab that shares no cookies, storage or cache with others."""
    context = await browser.new_context(
        viewport=size or DESK,  # type: ignore[arg-type]
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
    )
    async with context:
        yield Tab(await context.new_page())
