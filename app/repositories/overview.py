"""What the status page asks of the shop. Each statement reads few rows of few pages, however many
orders there are: docs/monitoring.md has the measurement."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import DateTime, Row, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

# So many orders are counted. A day of more is told as incomplete, in less than a second.
MOST_COUNTED = 1_000_000

_MOMENTS = [bindparam(name, type_=DateTime(timezone=True)) for name in ("begins", "ends")]
_TODAY = text("""
SELECT status, count(*) AS n FROM (
    SELECT status FROM orders WHERE ordered_at >= :begins AND ordered_at < :ends LIMIT :most
) AS today GROUP BY status
""").bindparams(*_MOMENTS)
_DATED_BACK = text("""
SELECT count(*) FROM (
    SELECT FROM orders
    WHERE ordered_at < created_at AND created_at >= :begins AND ordered_at < :begins LIMIT :most
) AS arrived
""").bindparams(_MOMENTS[0])
_MINUTES = text("""
SELECT date_trunc('minute', now()) AS minute, ARRAY(
    SELECT coalesce(n, 0) FROM generate_series(59, 0, -1) AS ago LEFT JOIN (
        SELECT extract(epoch FROM date_trunc('minute', now()) - date_trunc('minute', ordered_at))
            ::int / 60 AS ago, count(*) AS n
        FROM (
            SELECT ordered_at FROM orders WHERE ordered_at <= now()
                AND ordered_at >= date_trunc('minute', now()) - INTERVAL '59 minutes' LIMIT :most
        ) AS recent GROUP BY 1
    ) AS counted USING (ago) ORDER BY ago DESC
) AS counts
""")
# Reads the whole table of products, which is much smaller than that of orders. An index of the
# stock would be written for each product of each order, and each of these updates would write all
# other indexes of products too.
_LOW = text("""
SELECT id, sku, name, stock_quantity, count(*) OVER () AS low,
    count(*) FILTER (WHERE stock_quantity = 0) OVER () AS none
FROM products WHERE stock_quantity <= :few ORDER BY stock_quantity = 0, stock_quantity, id LIMIT 10
""")


_LAST = text("SELECT id, status, ordered_at FROM orders ORDER BY id DESC LIMIT 5")


class Minutes(NamedTuple):
    """The running one, and how many orders each of the last 60 had."""

    minute: datetime
    counts: Sequence[int]


class OverviewRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def today(self, begins: datetime, ends: datetime) -> dict[str, int]:
        """How many orders each status has; of more than MOST_COUNTED, some."""
        arguments = {"begins": begins, "ends": ends, "most": MOST_COUNTED}
        return {row.status: row.n for row in await self._rows(_TODAY, **arguments)}

    async def dated_back(self, begins: datetime) -> int:
        """How many orders have come since, and are dated before."""
        [row] = await self._rows(_DATED_BACK, begins=begins, most=MOST_COUNTED)
        return int(row[0])

    async def minutes(self) -> Minutes:
        [row] = await self._rows(_MINUTES, most=MOST_COUNTED)
        return Minutes(row.minute, row.counts)

    async def last_orders(self) -> Sequence[Row[Any]]:
        """The newest first."""
        return await self._rows(_LAST)

    async def low_stock(self, few: int) -> Sequence[Row[Any]]:
        return await self._rows(_LOW, few=few)

    async def _rows(self, query: Any, **arguments: Any) -> Sequence[Row[Any]]:
        return (await self._connection.execute(query, arguments)).all()
