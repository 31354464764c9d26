"""Keeps the totals of lists right, also after a restore that ran without triggers."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog

from app.repositories.row_counts import RowCountRepository

log = structlog.get_logger(__name__)

_RECOUNT_SECONDS = 86_400


class TotalsKeeper:
    """A total that cannot be trusted is counted whenever it is read, until the next tick makes it
    right. At the start, and once a day, all totals are compared with their tables."""

    def __init__(
        self, row_counts: Callable[[], AbstractAsyncContextManager[RowCountRepository]]
    ) -> None:
        """`row_counts` opens a transaction."""
        self._row_counts = row_counts
        self._recount_at = time.monotonic()

    async def tick(self) -> None:
        """Raises Unavailable: then the next tick tries again."""
        is_time = time.monotonic() >= self._recount_at
        for table in RowCountRepository.tables():
            await self._repair(table, is_time)
        if is_time:
            self._recount_at = time.monotonic() + _RECOUNT_SECONDS

    async def _repair(self, table: str, is_time: bool) -> None:
        async with self._row_counts() as row_counts:
            is_trusted = await row_counts.is_trusted(table)
            if is_trusted and not is_time:
                return
            if not is_trusted:
                await row_counts.trust(table)
            missing = await row_counts.recount(table)
        if missing or not is_trusted:
            log.warning("kept total corrected", table=table, missing=missing)
