from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, Select, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models import OutboxMessage

# Any constant that nobody else uses in this database.
_RELAY_LOCK = 7_105_327


class OutboxRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def take(self, ids: Sequence[int]) -> Sequence[int]:
        """Those of these rows that nobody else is sending, locked."""
        query = select(OutboxMessage.id).where(OutboxMessage.id.in_(ids))
        return await self._lock(query.order_by(OutboxMessage.id))

    async def take_oldest(self, limit: int, older_than: timedelta) -> Sequence[int]:
        """Rows whose writer has had its time to send them itself, locked. One relay at a time:
        two would send them out of order."""
        if not await self._connection.scalar(select(func.pg_try_advisory_xact_lock(_RELAY_LOCK))):
            return []
        query = (
            select(OutboxMessage.id)
            .where(OutboxMessage.created_at < func.clock_timestamp() - older_than)
            .order_by(OutboxMessage.id)
            .limit(limit)
        )
        return await self._lock(query)

    async def _lock(self, query: Select[int]) -> Sequence[int]:
        return (await self._connection.scalars(query.with_for_update(skip_locked=True))).all()

    async def remove(self, row_id: int) -> Row[Any]:
        """The row that was there."""
        statement = delete(OutboxMessage).where(OutboxMessage.id == row_id).returning(OutboxMessage)
        return (await self._connection.execute(statement)).one()
