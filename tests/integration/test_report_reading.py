"""GET /report: the database writes the JSON, page by page."""

import csv
import io
import json
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime

import httpx
import pytest

from app.container import Container
from app.repositories import reports
from app.schemas.reports import ReportFormat, ReportRead
from harness.databases import connected
from harness.reports import DAY, NOON, build, report_of
from harness.shop import Shop

MOMENTS = ["2025-12-17T00:00:00.089033", "2025-12-17T00:00:00", "2025-12-17T00:00:00.08"]


async def body_of(container: Container) -> str:
    async with container.reading() as uow:
        pieces = await uow.reports.of_day(DAY)
    return "".join([piece async for piece in pieces])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5])
async def test_the_pages_are_joined_into_one_list(
    container: Container, shop: Shop, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(reports, "ROWS_PER_PAGE", 2)
    product_id = await shop.product()
    orders = [(await shop.order((product_id, 1), ordered_at=NOON)).id for _ in range(count)]
    await build(container)
    assert [row["order_id"] for row in await report_of(container)] == orders


async def test_the_database_writes_the_json_of_the_schema(
    container: Container, shop: Shop, database_url: str
) -> None:
    """Byte for byte as pydantic writes it, including times with and without a fraction."""
    product_id = await shop.product()
    orders = [(await shop.order((product_id, 2), ordered_at=NOON)).id for _ in MOMENTS]
    await build(container)
    expected = []
    async with connected(database_url) as connection:
        for order_id, moment in zip(orders, map(datetime.fromisoformat, MOMENTS), strict=True):
            row = await connection.fetchrow(
                "UPDATE reports SET created_at = $2 WHERE order_id = $1 RETURNING *",
                order_id,
                moment.replace(tzinfo=UTC),
            )
            expected.append(ReportRead.model_validate(dict(row or {})).model_dump_json())
    assert await body_of(container) == f"[{','.join(expected)}]"
    assert [row["created_at"][19:] for row in json.loads(f"[{','.join(expected)}]")] == [
        ".089033",
        "",
        ".080000",
    ]


async def test_the_same_as_csv(
    container: Container, client: httpx.AsyncClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "ROWS_PER_PAGE", 2)
    path = f"/report?report_date={DAY}"
    product_id = await shop.product()
    for count in (0, 3):
        for _ in range(count):
            await shop.order((product_id, 2), ordered_at=NOON)
        await build(container)
        response = await client.get(f"{path}&format=csv")
        assert response.headers["content-type"] == "text/csv; charset=utf-8"
        assert response.text.endswith("\r\n") and response.text.count("\r\n") == count + 1
        rows = (await client.get(path)).json()
        found = csv.DictReader(io.StringIO(response.text, newline=""))
        assert list(found) == [{name: str(row[name]) for name in row} for row in rows]
        assert found.fieldnames == list(ReportRead.model_fields)


@pytest.mark.parametrize(
    ("accept", "format", "media_type"),
    [
        ("*/*", "", "application/json"),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", "", "application/json"),
        ("text/csv", "", "text/csv"),
        ("text/csv;q=0.5, application/json;q=0.4", "", "text/csv"),
        ("application/json, text/csv;q=0.9", "", "application/json"),
        ("image/png", "", "application/json"),
        ("text/csv", "&format=json", "application/json"),
        ("application/json", "&format=csv", "text/csv"),
    ],
)
async def test_who_gets_what(
    client: httpx.AsyncClient, accept: str, format: str, media_type: str
) -> None:
    path = f"/report?report_date={DAY}{format}"
    response = await client.get(path, headers={"Accept": accept})
    assert response.headers["content-type"].partition(";")[0] == media_type
    assert response.headers["vary"] == "Accept"
    head = await client.head(path, headers={"Accept": accept})
    assert head.headers["content-type"] == response.headers["content-type"]


async def test_slow_readers_hold_no_database_connection(
    container: Container, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "ROWS_PER_PAGE", 1)
    product_id = await shop.product()
    for _ in range(2):
        await shop.order((product_id, 1), ordered_at=NOON)
    await build(container)
    async with AsyncExitStack() as slow:
        for _ in range(2 * 10):  # twice as many as the pool has
            async with container.reading() as uow:
                pieces = await uow.reports.of_day(DAY)
            slow.push_async_callback(pieces.aclose)  # type: ignore[attr-defined]
            assert (await anext(pieces)).startswith("[{")
        assert len(await report_of(container)) == 2


async def test_a_head_request_reads_the_first_page_alone(
    container: Container, client: httpx.AsyncClient, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "ROWS_PER_PAGE", 1)
    product_id = await shop.product()
    for _ in range(9):
        await shop.order((product_id, 1), ordered_at=NOON)
    await build(container)
    pages: list[int] = []
    page = reports.ReportRepository.page

    async def counted(
        self: reports.ReportRepository, day: date, after: int, format: ReportFormat
    ) -> reports.ReportPage:
        pages.append(after)
        return await page(self, day, after, format)

    monkeypatch.setattr(reports.ReportRepository, "page", counted)
    head = await client.head(f"/report?report_date={DAY}")
    assert head.status_code == 200
    assert 1 <= len(pages) <= 2
    pages.clear()
    get = await client.get(f"/report?report_date={DAY}")
    assert len(get.json()) == 9 and len(pages) == 10
    assert head.headers["content-type"] == get.headers["content-type"]
