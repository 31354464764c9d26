"""The pages and pictures, in a browser that reaches nothing but the service."""

import re
from html import unescape

import httpx
from playwright.async_api import Browser

from harness.browser import browsing
from harness.service import Service
from tests.e2e.test_docs_page import ELSEWHERE


async def test_the_status_the_life_of_an_order_and_the_chart(
    service: Service, chromium: Browser
) -> None:
    await service.script("producer.py")
    httpx.post(f"{service.url}/report", timeout=60).raise_for_status()
    message = httpx.get(f"{service.url}/messages?queue=order&status=applied").json()["messages"][0]
    life = f"{service.url}/orders/{message['result_id']}/life"
    status = f"{service.url}/"
    chart = f"{service.url}/report/chart.svg"
    for url, told in ((life, message["message_id"]), (chart, "orders"), (status, "Orders today")):
        async with browsing(chromium) as tab:
            await tab.open(url)
            dom = await tab.page.content()
        assert told in dom
        assert not ELSEWHERE.findall(dom)
        assert not tab.troubles
    for url in (life, status):
        page = httpx.get(url, headers={"Accept": "text/html"}).text
        for link in set(re.findall('href="([^"]+)"', page.partition("<main")[2])):
            assert httpx.get(httpx.URL(url).join(unescape(link))).status_code == 200, link
