from typing import Any

from sqlalchemy import case, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import Message
from app.schemas.messages import MessageStatus, Queue

# A dead message may be sent again, a failing one is being tried; the others are settled.
_UNSETTLED = Message.status.in_([MessageStatus.FAILING, MessageStatus.DEAD])


class MessageRepository:
    """The inbox."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def latest(self, message_id: str) -> Message | None:
        """An id is unique in its queue; of two queues' messages with one id, the newer."""
        query = (
            select(Message)
            .where(Message.message_id == message_id)
            .order_by(Message.first_seen_at.desc())
            .limit(1)
        )
        return await self._session.scalar(query)

    async def get(self, queue: Queue, message_id: str) -> Message:
        query = select(Message).where(Message.message_id == message_id, Message.queue == queue)
        return (await self._session.scalars(query)).one()

    async def settle(
        self, queue: Queue, message_id: str, status: MessageStatus, **fields: Any
    ) -> bool:
        """Write what became of the message; False if that stands already.

        A second delivery of the same message waits here for the first one's transaction."""
        values = {"reason": None, "detail": None, "facts": None, **fields, "status": status}
        statement = (
            insert(Message)
            .values(message_id=message_id, queue=queue, finished_at=func.now(), **values)
            .on_conflict_do_update(
                index_elements=[Message.message_id, Message.queue],
                set_={**values, "finished_at": func.now()},
                where=_UNSETTLED,
            )
            .returning(Message.message_id)
        )
        return (await self._session.scalar(statement)) is not None

    async def set_result(self, queue: Queue, message_id: str, result_id: int) -> None:
        statement = (
            update(Message)
            .where(Message.message_id == message_id, Message.queue == queue)
            .values(result_id=result_id)
            .execution_options(synchronize_session=False)
        )
        await self._session.execute(statement)

    async def count_failure(self, queue: Queue, message_id: str, detail: str) -> int:
        """How often the message has failed now. Counting begins anew when a dead one is retried."""
        values = {"status": MessageStatus.FAILING, "reason": "failure", "detail": detail}
        statement = (
            insert(Message)
            .values(message_id=message_id, queue=queue, attempts=1, **values)
            .on_conflict_do_update(
                index_elements=[Message.message_id, Message.queue],
                set_={
                    **values,
                    "finished_at": None,
                    "attempts": case(
                        (Message.status == MessageStatus.DEAD, 1), else_=Message.attempts + 1
                    ),
                },
                where=_UNSETTLED,
            )
            .returning(Message.attempts)
        )
        return await self._session.scalar(statement) or 0
