from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple, cast

from sqlalchemy import Select, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.messages import OutboxMessage

# An advisory lock: any constant that nothing else uses in this database.
_RELAY_LOCK = 7_105_327


class Waiting(NamedTuple):
    """How many messages wait, and for how many seconds the oldest of them."""

    messages: int
    seconds: float


class OutboxRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def take(self, ids: Sequence[int]) -> Sequence[int]:
        """Lock those of these rows that nobody else is sending; their ids."""
        query = select(OutboxMessage.id).where(OutboxMessage.id.in_(ids))
        return await self._lock(query.order_by(OutboxMessage.id))

    async def take_oldest(self, limit: int, older_than: timedelta) -> Sequence[int]:
        """Lock the oldest rows that their writer has had `older_than` time to send; their ids.

        One relay at a time: two would send out of order."""
        if not await self._connection.scalar(select(func.pg_try_advisory_xact_lock(_RELAY_LOCK))):
            return []
        query = (
            select(OutboxMessage.id)
            .where(OutboxMessage.created_at < func.clock_timestamp() - older_than)
            .order_by(OutboxMessage.id)
            .limit(limit)
        )
        return await self._lock(query)

    async def waiting(self) -> Waiting:
        age = func.extract("epoch", func.clock_timestamp() - func.min(OutboxMessage.created_at))
        query = select(func.count(), func.coalesce(age, 0)).select_from(OutboxMessage)
        count, seconds = (await self._connection.execute(query)).one()
        return Waiting(count, max(0.0, float(seconds)))

    async def _lock(self, query: Select[int]) -> Sequence[int]:
        return (await self._connection.scalars(query.with_for_update(skip_locked=True))).all()

    async def remove(self, row_id: int) -> OutboxMessage:
        """Delete the row, and return it."""
        statement = delete(OutboxMessage).where(OutboxMessage.id == row_id).returning(OutboxMessage)
        return cast(OutboxMessage, (await self._connection.execute(statement)).one())
