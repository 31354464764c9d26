from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from app.errors import NotFound, Refusal
from app.repositories.messages import MessageRepository
from app.schemas.messages import MessageRead, MessageStatus, Queue
from app.services.changes import RECENT, Changes


class MessageService:
    """What became of every queue message, written with its effect or not at all."""

    def __init__(self, messages: MessageRepository, changes: Changes) -> None:
        self._messages = messages
        self._changes = changes

    async def read(self, message_id: str) -> MessageRead:
        message = await self._messages.latest(message_id)
        if message is None:
            raise NotFound("message", "of this id")
        return MessageRead.model_validate(message)

    async def apply(
        self, queue: Queue, message_id: str, effect: Callable[[], Awaitable[int]]
    ) -> MessageRead:
        """Run the effect unless an earlier delivery of this message has; it returns the id of what
        it made or changed."""
        if await self._messages.settle(queue, message_id, MessageStatus.APPLIED):
            await self._messages.set_result(queue, message_id, await effect())
            return await self._outcome(queue, message_id)
        outcome = await self._outcome(queue, message_id)
        settled_at = outcome.finished_at or datetime.now(UTC)
        is_recent = datetime.now(UTC) - settled_at < RECENT
        self._changes.repeated = is_recent and outcome.status is MessageStatus.APPLIED
        return outcome

    async def reject(self, queue: Queue, message_id: str, refusal: Refusal) -> MessageRead:
        await self._messages.settle(
            queue,
            message_id,
            MessageStatus.REJECTED,
            reason=refusal.reason,
            detail=refusal.detail,
            facts=refusal.facts or None,
        )
        return await self._outcome(queue, message_id)

    async def bury(self, queue: Queue, message_id: str, reason: str, detail: str) -> MessageRead:
        await self._messages.settle(
            queue, message_id, MessageStatus.DEAD, reason=reason, detail=detail
        )
        return await self._outcome(queue, message_id)

    async def count_failure(self, queue: Queue, message_id: str, detail: str) -> int:
        return await self._messages.count_failure(queue, message_id, detail)

    async def _outcome(self, queue: Queue, message_id: str) -> MessageRead:
        return MessageRead.model_validate(await self._messages.get(queue, message_id))
