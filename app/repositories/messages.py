import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

from sqlalchemy import ARRAY, Text, case, func, literal, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.messages import Message
from app.schemas.messages import MessageRead, MessageStatus, Queue

# A dead message may be sent again, and a failing one is being tried; all others have an outcome.
_UNSETTLED = Message.status.in_([MessageStatus.FAILING, MessageStatus.DEAD])
# For the rest of the transaction: a plan that was made while the tables were empty would be kept,
# and would read whole tables.
_PLAN_EACH_TIME = func.set_config("plan_cache_mode", "force_custom_plan", True)
_RECORD = text("""
UPDATE messages m SET
    status = o.status, result_id = o.result_id, reason = o.reason, detail = o.detail,
    facts = CAST(o.facts AS jsonb)
FROM unnest(
    CAST(:message_id AS text[]), CAST(:status AS text[]), CAST(:result_id AS bigint[]),
    CAST(:reason AS text[]), CAST(:detail AS text[]), CAST(:facts AS text[])
) AS o (message_id, status, result_id, reason, detail, facts)
WHERE m.queue = :queue AND m.message_id = o.message_id
""")


class Claimed(NamedTuple):
    message_id: str
    attempts: int
    first_seen_at: datetime
    finished_at: datetime


class MessageRepository:
    """The inbox."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def latest(self, message_id: str) -> Message | None:
        """Ids are unique in each queue. If two queues have a message with this id, the newer."""
        query = (
            select(Message)
            .where(Message.message_id == message_id)
            .order_by(Message.first_seen_at.desc())
            .limit(1)
        )
        return cast(Message | None, (await self._connection.execute(query)).one_or_none())

    async def get(self, queue: Queue, message_id: str) -> Message:
        query = select(Message).where(Message.message_id == message_id, Message.queue == queue)
        return cast(Message, (await self._connection.execute(query)).one())

    async def settle(
        self, queue: Queue, message_id: str, status: MessageStatus, **fields: Any
    ) -> bool:
        """Write the message's outcome. False if it has one already.

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
        return (await self._connection.scalar(statement)) is not None

    async def claim(self, queue: Queue, message_ids: Sequence[str]) -> Sequence[Claimed]:
        """As `settle`, for many messages: write those that have no outcome yet as applied.

        In the order of the ids, so that two transactions with the same ids do not deadlock."""
        found = func.unnest(literal(message_ids, ARRAY(Text))).column_valued("found")
        settled = {"status": MessageStatus.APPLIED, "finished_at": func.now()}
        fresh = select(found, literal(queue), literal(MessageStatus.APPLIED), func.now())
        statement = (
            insert(Message)
            .from_select(["message_id", "queue", *settled], fresh.order_by(found))
            .on_conflict_do_update(
                index_elements=[Message.message_id, Message.queue],
                set_={"reason": None, "detail": None, "facts": None, **settled},
                where=_UNSETTLED,
            )
            .returning(
                Message.message_id,
                Message.attempts,
                Message.first_seen_at,
                Message.finished_at,
                _PLAN_EACH_TIME,
            )
        )
        claimed = await self._connection.execute(statement)
        return [Claimed(*row[:4]) for row in claimed]

    async def record(self, outcomes: Sequence[MessageRead]) -> None:
        """Write the outcomes of claimed messages of one queue."""
        columns = ("message_id", "status", "result_id", "reason", "detail")
        values = {name: [getattr(outcome, name) for outcome in outcomes] for name in columns}
        facts = [outcome.facts and json.dumps(outcome.facts) for outcome in outcomes]
        await self._connection.execute(
            _RECORD, {"queue": outcomes[0].queue, "facts": facts, **values}
        )

    async def count_failure(self, queue: Queue, message_id: str, detail: str) -> int:
        """How often the message has failed. A dead message that is sent again starts at 1."""
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
        return await self._connection.scalar(statement) or 0
