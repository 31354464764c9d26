"""Days added up: GET /report/summary and /report/chart.svg."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
from alembic import command
from alembic.config import Config

from app.container import Container
from app.settings import ROOT
from harness.databases import address_of, connected
from harness.reports import DAY, NOON, build
from harness.shop import Shop

_SVG = "{http://www.w3.org/2000/svg}"
_WEEK = f"from={DAY - timedelta(days=6)}&to={DAY}"


async def _summary(client: httpx.AsyncClient, query: str) -> Any:
    response = await client.get(f"/report/summary?{query}")
    assert response.status_code == 200, response.text
    return response.json()


async def _order(shop: Shop, product_id: int, quantity: int, day: date) -> None:
    await shop.order((product_id, quantity), ordered_at=f"{day}T12:00:00")


async def test_every_day_of_the_range_and_the_sum(
    container: Container, client: httpx.AsyncClient, shop: Shop
) -> None:
    product_id = await shop.product()
    yesterday = DAY - timedelta(days=1)
    for quantity, day in ((3, DAY), (4, DAY), (5, yesterday)):
        await _order(shop, product_id, quantity, day)
    assert await _summary(client, f"from={yesterday}&to={DAY}") == {
        "days": [
            {"report_date": str(day), "orders": 0, "units": 0, "closed": False, "built_at": None}
            for day in (yesterday, DAY)
        ],
        "orders": 0,
        "units": 0,
    }
    for day in (DAY, yesterday, DAY - timedelta(days=2)):
        await build(container, day)
    found = await _summary(client, _WEEK)
    days = [day["report_date"] for day in found["days"]]
    assert days == [str(DAY - timedelta(days=n)) for n in range(6, -1, -1)]
    numbers = [(day["orders"], day["units"], day["closed"]) for day in found["days"]]
    assert numbers == [*4 * [(0, 0, False)], (0, 0, True), (1, 5, True), (2, 7, True)]
    assert (found["orders"], found["units"]) == (3, 12)


async def test_late_orders_are_added(
    container: Container, client: httpx.AsyncClient, shop: Shop
) -> None:
    product_id = await shop.product()
    for quantity in (1, 2, 4):
        await _order(shop, product_id, quantity, DAY)
        assert (await build(container)).reports_count == (await build(container)).reports_count
    (day,) = (await _summary(client, f"from={DAY}&to={DAY}"))["days"]
    assert (day["orders"], day["units"]) == (3, 7)


async def test_by_default_the_last_fourteen_days(client: httpx.AsyncClient) -> None:
    today = datetime.now(UTC).date()
    days = [day["report_date"] for day in (await _summary(client, ""))["days"]]
    assert len(days) == 14 and date.fromisoformat(days[-1]) - today <= timedelta(days=1)
    days = [day["report_date"] for day in (await _summary(client, f"to={DAY}"))["days"]]
    assert (days[0], days[-1]) == (str(DAY - timedelta(days=13)), str(DAY))


@pytest.mark.parametrize("resource", ["summary", "chart.svg"])
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2025-12-17&to=2025-12-16", "from"),
        ("from=2024-12-15&to=2025-12-16", "from"),
        ("from=9999-12-31", "from"),
        ("from=2025-12-16&from=2025-12-15", "from"),
        ("from=null", "from"),
        ("from=yesterday", "from"),
        ("to=2025-02-30", "to"),
        ("first=2025-12-16", "first"),
    ],
)
async def test_what_is_wrong_is_said(
    client: httpx.AsyncClient, resource: str, query: str, field: str
) -> None:
    response = await client.get(f"/report/{resource}?{query}")
    (error,) = response.json()["errors"]
    assert (response.status_code, error["field"]) == (422, field)


@pytest.mark.parametrize(
    ("query", "days"),
    [("to=0001-01-03", 3), ("to=9999-12-31", 14), ("from=2024-12-16&to=2025-12-16", 366)],
)
async def test_long_ranges_and_the_ends_of_the_calendar(
    client: httpx.AsyncClient, query: str, days: int
) -> None:
    assert len((await _summary(client, query))["days"]) == days
    assert (await client.get(f"/report/chart.svg?{query}")).status_code == 200


async def test_no_row_of_a_report_is_read(
    container: Container, client: httpx.AsyncClient, shop: Shop, database_url: str
) -> None:
    """However many there are."""
    await _order(shop, await shop.product(), 2, DAY)
    await build(container)
    before = await _summary(client, _WEEK)
    async with connected(database_url) as connection:
        await connection.execute("TRUNCATE reports")
    assert await _summary(client, _WEEK) == before


async def test_days_from_before_the_migration(
    container: Container, client: httpx.AsyncClient, shop: Shop, database_url: str
) -> None:
    product_id = await shop.product()
    await build(container)  # a part without rows
    for quantity in (1, 2):
        await _order(shop, product_id, quantity, DAY)
        await build(container)
    await _order(shop, product_id, 3, DAY - timedelta(days=1))
    await build(container, DAY - timedelta(days=1))
    before = await _summary(client, _WEEK)
    async with connected(database_url) as connection:
        select = "SELECT * FROM report_run_parts WHERE orders > 0 ORDER BY 1, 2"
        parts = await connection.fetch(select)
        config = Config(ROOT / "app/alembic.ini")
        config.attributes["address"] = address_of(database_url)
        await asyncio.to_thread(command.downgrade, config, "b9d0f3a6c714")
        await asyncio.to_thread(command.upgrade, config, "head")
        assert await connection.fetch(select) == parts
        assert [part["number"] for part in parts] == [1, 2, 3]
    assert await _summary(client, _WEEK) == before


async def _drawn(client: httpx.AsyncClient, query: str) -> tuple[ElementTree.Element, str]:
    response = await client.get(f"/report/chart.svg?{query}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/svg+xml"
    assert "script-src" not in response.headers["content-security-policy"]
    return ElementTree.fromstring(response.content), response.text


async def test_the_picture_tells_the_numbers(
    container: Container, client: httpx.AsyncClient, shop: Shop
) -> None:
    product_id = await shop.product()
    for quantity in (3, 4):
        await shop.order((product_id, quantity), ordered_at=NOON)
    await build(container)
    svg, text = await _drawn(client, _WEEK)
    assert svg.get("role") == "img"
    ids = {element.get("id"): element.text for element in svg.iter() if element.get("id")}
    title, desc = (ids[name] for name in (svg.get("aria-labelledby") or "").split())
    assert title == f"Orders and pieces a day, {DAY - timedelta(days=6)} to {DAY}"
    assert desc == "Two bars for each day. 2 orders with 7 pieces in all."
    groups = svg.findall(f"{_SVG}g")
    assert len(groups) == 7
    assert groups[-1].findtext(f"{_SVG}title") == f"{DAY}: 2 orders, 7 pieces"
    orders, units = (float(r.get("height") or 0) for r in groups[-1].findall(f"{_SVG}rect"))
    assert units / orders == pytest.approx(3.5, rel=0.01)
    assert "prefers-color-scheme: dark" in text
    assert "<script" not in text and "http" not in text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("units", [0, 1, 9, 10, 99, 100, 101, 999, 12_345, 10**9 + 1])
async def test_every_bar_is_inside(
    container: Container, client: httpx.AsyncClient, database_url: str, units: int
) -> None:
    await build(container)
    async with connected(database_url) as connection:
        await connection.execute("UPDATE report_run_parts SET orders = 1, units = $1", units)
    svg, _ = await _drawn(client, _WEEK)
    for box in svg.iter(f"{_SVG}rect"):
        y, height = float(box.get("y") or 0), float(box.get("height") or 0)
        assert 0 <= y and y + height <= 320
    assert 2 <= len(svg.findall(f"{_SVG}line")) <= 6
