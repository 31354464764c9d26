"""Swagger UI at /docs shows the API to a browser that reaches nothing but the service."""

import re
from html.parser import HTMLParser

import httpx
import pytest
from playwright.async_api import Browser

from harness.browser import browsing
from harness.service import Service

# URLs of other hosts, except the names of XML vocabularies, which nobody fetches.
ELSEWHERE = re.compile(r"(?:https?:)?//(?!localhost[:/]|www\.w3\.org/)[\w.-]+\.\w+")
LINKING = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")


class Page(HTMLParser):
    """The rendered page: where it links to, and the operations it shows."""

    def __init__(self, dom: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.operations: list[str] = []
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in LINKING]
        named = dict(attrs)
        if "opblock " in f"{named.get('class', '')} ":
            self.operations.append(named.get("id") or "")


async def test_the_page_shows_every_operation(service: Service, chromium: Browser) -> None:
    async with browsing(chromium) as tab:
        await tab.open(f"{service.url}/docs")
        await tab.page.locator(".opblock").last.wait_for()
        dom = await tab.page.content()
    page = Page(dom)
    document = httpx.get(f"{service.url}/schema/openapi.json").json()
    wanted = {
        f"operations-{operation['tags'][0]}-{operation['operationId']}"
        for methods in document["paths"].values()
        for operation in methods.values()
    }
    assert set(page.operations) == wanted
    for summary in ("Place an order: all of it or nothing", "What became of a message"):
        assert summary in dom
    assert not [link for link in page.links if ELSEWHERE.match(link)]
    assert not ELSEWHERE.findall(httpx.get(f"{service.url}/docs").text)
    assert not tab.troubles


def test_the_page_may_load_nothing_from_other_hosts(service: Service) -> None:
    response = httpx.get(f"{service.url}/docs")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "https:" not in policy
    assert re.search(r"script-src 'self' 'sha256-[\w+/=]{44}'", policy)
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert response.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("swagger-ui-bundle.js", "javascript"),
        ("swagger-ui-standalone-preset.js", "javascript"),
        ("swagger-ui.css", "css"),
        ("favicon-32x32.png", "image/png"),
    ],
)
def test_the_service_serves_the_files_of_the_page(
    service: Service, name: str, media_type: str
) -> None:
    response = httpx.get(f"{service.url}/docs/assets/{name}")
    assert response.status_code == 200
    assert media_type in response.headers["content-type"]
