"""What is asked of long lists: filters and orders, each with its exact total."""

from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

from benchmarks import data
from benchmarks.lab import CPU, POSTGRES_CPU, RATE, Lab
from benchmarks.load import Load
from benchmarks.results import Comparison, Figures, Line, RowResult, Turn, at_most, compare

PLAIN = "/orders"
TIME = "ms per request"


def _questions() -> dict[str, str]:
    hour = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    return {
        "one order by its external_id": "/orders?external_id=web-1000",
        "the last hour, the newest first": f"/orders?ordered_from={hour}&sort=-ordered_at",
        "the newest first": "/orders?sort=-ordered_at",
        "a rare status": "/orders?status=cancelled",
        "a user's orders of a status": "/orders?user_id=7&status=shipped",
        "a status that the user has none of": "/orders?user_id=7&status=pending",
        "nobody's orders, the newest first": "/orders?user_id=1000000&sort=-ordered_at",
        "a rare status, the newest first": "/orders?status=cancelled&sort=-ordered_at",
        "one product by its sku": "/products?sku=SKU-1000",
        "few names that begin alike": "/products?name_prefix=mint%20tea%2099999",
        "by price": "/products?sort=price",
        "by name, from the end": "/products?sort=-name",
    }


# Their totals count what fits.
_MANY = {
    "a user's 10,000 orders, the newest first": "/orders?user_id=7&sort=-ordered_at",
    "a status of a quarter, the newest first": "/orders?status=pending&sort=-ordered_at",
    "a status of a quarter": "/orders?status=pending",
    "a fifth of the names": "/products?name_prefix=green&sort=name",
}


async def measure(lab: Lab) -> RowResult:
    count = lab.size.rows(1_000_000, least=2000)
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(lab.database(data.variety(count)))
        web = await stack.enter_async_context(lab.web(url))

        def page(path: str) -> Turn:
            async def take() -> Figures:
                figures = await lab.burst(Load(path, connections=1), web)
                costs = {n.replace("µs", "ms"): figures[n] / 1000 for n in (CPU, POSTGRES_CPU)}
                return {TIME: 1000 / figures[RATE], **costs}

            return take

        paths = {PLAIN: PLAIN, **_questions(), **_MANY}
        turns = {name: page(path) for name, path in paths.items()}
        comparison = await compare(f"{count:,} products and orders", turns, lab.size.rounds)
    remarks = [
        "One connection, one request after another, ten rows each. An exact total of a filter "
        "counts what fits: that is nearly all of the time for a quarter of a million rows.",
    ]
    return RowResult(_lines(comparison), [comparison], remarks)


def _lines(comparison: Comparison) -> list[Line]:
    return [
        Line(
            f"time of {name} / the plain list",
            comparison.ratios(TIME, name, PLAIN),
            must=at_most(3),
        )
        for name in _questions()
    ]
