"""Real data through the whole service, compared with results that were computed without it."""

import asyncio
import json
from pathlib import Path

import pytest

from harness import northwind
from harness.dependencies import Dependencies
from harness.invariants import check_invariants
from harness.service import Service

ORDERS = 830


@pytest.fixture(autouse=True)
def _data() -> None:
    northwind.require()


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


async def load(service: Service, products: str) -> str:
    data = northwind.NORTHWIND
    return await service.script("producer.py", "--data", data, "--products", data / products)


async def check_stock(service: Service, truth: str) -> None:
    found = {row["sku"]: row["stock_quantity"] for row in await service.every("products")}
    assert found == {row["sku"]: int(row["final"]) for row in northwind.truth(truth)}


async def check_reports(service: Service) -> None:
    """Every day of the two years that has orders, built on request."""
    numbers = {row["id"]: row["external_id"] for row in await service.every("orders")}
    expected = northwind.truth("report_expected")
    days = sorted({row["report_day"] for row in expected})
    assert len(days) == 480
    found: list[tuple[str, str, str]] = []

    async def report(offset: int) -> None:
        for day in days[offset::4]:
            built = (await service.api.post(f"/report?report_date={day}")).json()
            rows = (await service.api.get(f"/report?report_date={day}")).json()
            assert built == {"report_date": day, "created": len(rows), "reports_count": len(rows)}
            found.extend((day, numbers[row["order_id"]], str(row["count_product"])) for row in rows)

    await asyncio.gather(*map(report, range(4)))
    assert sorted(found) == sorted(
        (row["report_day"], row["external_id"], row["count_product"]) for row in expected
    )


async def check_ample(service: Service) -> None:
    output = await load(service, "products_ample.jsonl")
    assert f"{ORDERS} created" in output, output
    assert await service.total("orders") == ORDERS
    await check_stock(service, "final_stock_ample_enough")
    await check_reports(service)


async def test_all_orders_with_one_command(embedded: Service) -> None:
    await embedded.start("web")
    await check_ample(embedded)
    state = json.loads((embedded.directory / "data/state.json").read_text())
    await check_invariants(state["database_url"])


async def test_all_orders_over_rabbitmq(processes: Service, dependencies: Dependencies) -> None:
    await processes.start("web", "worker")
    await check_ample(processes)
    await check_invariants(dependencies.database_url)


async def test_with_half_the_stock_the_expected_orders_are_rejected(
    tree: Path, tmp_path: Path, dependencies: Dependencies
) -> None:
    """One order at a time: which of them find too little stock depends on their sequence."""
    variables = {**dependencies.variables, "WORKER_CONCURRENCY": "1"}
    async with Service(tree, tmp_path, variables) as service:
        await service.start("web", "worker")
        await check_half(service)
    await check_invariants(dependencies.database_url)


async def check_half(service: Service) -> None:
    output = await load(service, "products_half.jsonl")
    rejected = northwind.truth("rejected_half_enough")
    assert f"{len(rejected)} rejected (out-of-stock)" in output, output
    for row in rejected:
        response = await service.api.get(f"/messages/load:order:{row['external_id']}")
        outcome = response.json()
        assert (outcome["status"], outcome["reason"]) == ("rejected", "out-of-stock"), row
        short = outcome["facts"]["short"]
        first = {"wanted": int(row["wanted"]), "in_stock": int(row["in_stock"])}
        assert any(first.items() <= line.items() for line in short), (row, short)
        assert len(short) == int(row["short_skus"])
    accepted = {row["external_id"] for row in await service.every("orders")}
    assert len(accepted) == ORDERS - len(rejected)
    assert accepted.isdisjoint(row["external_id"] for row in rejected)
    await check_stock(service, "final_stock_half_enough")
