"""What is kept for how long; docs/running.md has the table."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.database import Database
from app.messaging.broker import Broker
from app.repositories.idempotency import KEPT
from app.repositories.retention import RetentionRepository

_BATCH_SECONDS = 15


@dataclass(frozen=True)
class Kept:
    """In days."""

    messages: int
    dead_letters: int
    report_messages: int
    stock_movements: int


class Retention:
    """Deletes what is older than it has to be, in batches: each is a statement of its own."""

    def __init__(self, database: Database, broker: Broker, kept: Kept) -> None:
        self._database = database
        self._broker = broker
        self._kept = kept

    async def tick(self) -> None:
        """Raises Unavailable: then the next tick goes on."""
        messages = timedelta(days=self._kept.messages)
        await self._all(lambda rows: rows.forget_keys(KEPT))
        await self._all(lambda rows: rows.forget_messages(messages))
        await self._fold_movements()
        now = datetime.now(UTC)
        await self._broker.drop_dead(now - timedelta(days=self._kept.dead_letters))
        await self._broker.drop_reports(now - timedelta(days=self._kept.report_messages))

    async def _all(self, forget: Callable[[RetentionRepository], Awaitable[bool]]) -> None:
        more = True
        while more:
            async with self._database.autocommit(_BATCH_SECONDS) as connection:
                more = await forget(RetentionRepository(connection))

    async def _fold_movements(self) -> None:
        after, more = 0, True
        while more:
            async with self._database.autocommit(_BATCH_SECONDS) as connection:
                rows = RetentionRepository(connection)
                kept = timedelta(days=self._kept.stock_movements)
                last, more = await rows.fold_movements(kept, after)
            after = last or 0
