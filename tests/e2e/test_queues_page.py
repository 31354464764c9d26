"""/docs/queues shows the queues to a browser that reaches nothing but the service."""

import re

import httpx
import pytest
from playwright.async_api import Browser

from harness.browser import browsing
from harness.service import Service

SIZES = {
    "a desk": {"width": 1280, "height": 2400},
    "a telephone": {"width": 390, "height": 2400},
}


def text_of(dom: str) -> str:
    bare = re.sub(r"<(script|style).*?</\1>", "", dom, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bare))


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
async def test_the_page_shows_every_queue(
    service: Service, chromium: Browser, size: dict[str, int], dark: bool
) -> None:
    async with browsing(chromium, size, dark=dark) as tab:
        await tab.open(f"{service.url}/docs/queues")
        await tab.page.get_by_text("protects from a second effect").first.wait_for()
        dom = await tab.page.content()
        picture = await tab.page.screenshot()
    document = httpx.get(f"{service.url}/schema/asyncapi.json").json()
    shown = text_of(dom)
    for name, operation in document["operations"].items():
        assert f"Operation ID {name} " in shown
        assert document["channels"][name]["description"] in shown
        assert operation["action"] == ("send" if name == "report" else "receive")
    assert "protects from a second effect" in shown
    assert not tab.troubles
    assert len(picture) > 20_000


def test_below_another_path_the_page_finds_its_files(service: Service) -> None:
    """Its links are relative, and a slash at the end makes them longer."""
    for page in ("/docs/queues", "/docs/queues/"):
        url = httpx.URL(f"{service.url}{page}")
        response = httpx.get(url)
        assert response.status_code == 200, page
        links = re.findall(r'(?:href|src|data-document)="([^"#]+)"', response.text)
        files = [link for link in links if re.search(r"\.\w+$", link)]
        assert len(files) == 7
        for link in files:
            assert httpx.get(url.join(link)).status_code == 200, (page, link)


def test_the_page_may_load_nothing_from_other_hosts(service: Service) -> None:
    policy = httpx.get(f"{service.url}/docs/queues").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "https:" not in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]
