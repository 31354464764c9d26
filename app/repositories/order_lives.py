"""What the tables say about the life of one order."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.messages import Message
from app.queues import Queue

_STATUSES = text("""
SELECT status, changed_at AS at FROM order_status_changes WHERE order_id = :order_id ORDER BY id
""")
_MOVEMENTS = text("""
SELECT id, product_id, reason, quantity, created_at FROM stock_movements
WHERE order_id = :order_id ORDER BY id
""")
# A message, and the order or status that it made, were written in one transaction and have its time
# in common. So no index of result_id is needed: it would be written twice for each message.
_COLUMNS = ", ".join(Message.__table__.columns.keys())
_MESSAGES = text(f"""
SELECT {_COLUMNS} FROM messages
WHERE first_seen_at = ANY (CAST(:times AS timestamptz[])) AND finished_at = first_seen_at
    AND result_id = :order_id AND queue = ANY (CAST(:queues AS text[]))
UNION ALL
SELECT {_COLUMNS} FROM messages
WHERE finished_at = ANY (CAST(:times AS timestamptz[])) AND finished_at <> first_seen_at
    AND result_id = :order_id AND queue = ANY (CAST(:queues AS text[]))
""")
_QUEUES = [Queue.ORDER, Queue.ORDER_UPDATE]


class OrderLifeRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def statuses(self, order_id: int) -> Sequence[Row[Any]]:
        """Those after the first."""
        return await self._rows(_STATUSES, order_id=order_id)

    async def movements(self, order_id: int) -> Sequence[Row[Any]]:
        return await self._rows(_MOVEMENTS, order_id=order_id)

    async def messages(self, order_id: int, times: Sequence[datetime]) -> Sequence[Row[Any]]:
        """Those that placed the order or changed its status at these times."""
        return await self._rows(_MESSAGES, order_id=order_id, times=times, queues=_QUEUES)

    async def _rows(self, query: TextClause, **arguments: Any) -> Sequence[Row[Any]]:
        return (await self._connection.execute(query, arguments)).all()
