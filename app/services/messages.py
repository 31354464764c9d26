from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from app.errors import NotFound, Refusal
from app.repositories.messages import MessageRepository
from app.schemas.messages import MessageRead, MessageStatus, Queue
from app.services.after_commit import RECENT, Changes

Effects = Callable[[Sequence[str]], Awaitable[Sequence[int | Refusal]]]


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

        async def effects(_: Sequence[str]) -> Sequence[int]:
            return [await effect()]

        if applied := await self.apply_all(queue, [message_id], effects):
            return applied[message_id]
        outcome = await self._outcome(queue, message_id)
        settled_at = outcome.finished_at or datetime.now(UTC)
        is_recent = datetime.now(UTC) - settled_at < RECENT
        self._changes.repeated = is_recent and outcome.status is MessageStatus.APPLIED
        return outcome

    async def apply_all(
        self, queue: Queue, message_ids: Sequence[str], effects: Effects
    ) -> dict[str, MessageRead]:
        """As `apply`, in one go for those that no earlier delivery has settled; others are absent.

        The effects answer every id they are given, in this order, with an id or a refusal; one that
        is refused has changed nothing."""
        claimed = {row["message_id"]: row for row in await self._messages.claim(queue, message_ids)}
        ids = [message_id for message_id in message_ids if message_id in claimed]
        if not ids:
            return {}
        answers = zip(ids, await effects(ids), strict=True)
        outcomes = [_settled(queue, claimed[id], answer) for id, answer in answers]
        await self._messages.record(outcomes)
        return {outcome.message_id: outcome for outcome in outcomes}

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


def _settled(queue: Queue, claimed: Mapping[str, Any], answer: int | Refusal) -> MessageRead:
    if not isinstance(answer, Refusal):
        return MessageRead(queue=queue, status=MessageStatus.APPLIED, result_id=answer, **claimed)
    return MessageRead(
        queue=queue,
        status=MessageStatus.REJECTED,
        reason=answer.reason,
        detail=answer.detail,
        facts=answer.facts or None,
        **claimed,
    )
