from collections.abc import Awaitable, Callable, Sequence

from app.errors import NotFound, Poison, Refusal
from app.queues import Queue
from app.repositories.messages import Claimed, MessageRepository
from app.schemas.messages import (
    ID_REUSED,
    MessageFilters,
    MessageKey,
    MessageList,
    MessageRead,
    MessageStatus,
)
from app.services.after_commit import AfterCommit

Effects = Callable[[Sequence[str]], Awaitable[Sequence[int | Refusal]]]


class MessageService:
    """The outcome of every queue message, written in the transaction of its effect."""

    def __init__(self, messages: MessageRepository, after_commit: AfterCommit) -> None:
        self._messages = messages
        self._after_commit = after_commit

    async def list(self, wanted: MessageFilters, count: int, after: str | None) -> MessageList:
        found = await self._messages.page(wanted, count, after)
        rows = [MessageRead.of(row) for row in found.rows]
        return MessageList(messages=rows, next=found.next)

    async def read(self, message_id: str) -> MessageRead:
        """Raises NotFound."""
        message = await self._messages.latest(message_id)
        if message is None:
            raise NotFound("message", "of this id")
        return MessageRead.of(message)

    async def apply(self, key: MessageKey, effect: Callable[[], Awaitable[int]]) -> MessageRead:
        """Run the effect, unless an earlier delivery of this message has. The effect returns the id
        of what it made or changed. Raises what the effect raises, and Poison if another body has
        used the message id."""

        async def effects(_: Sequence[str]) -> Sequence[int]:
            return [await effect()]

        if applied := await self.apply_all([key], effects):
            return applied[key.message_id]
        outcome = await self._outcome(key)
        if outcome.status is MessageStatus.APPLIED and outcome.finished_at:
            self._after_commit.repeated(outcome.finished_at)
        return outcome

    async def apply_all(
        self, keys: Sequence[MessageKey], effects: Effects
    ) -> dict[str, MessageRead]:
        """As `apply`, for many messages of one queue at once, no two with the same id. Those whose
        id has an outcome already are absent from the result.

        The effects return an id or a Refusal for each message id they are given, in its order. What
        they refuse has changed nothing."""
        claimed = {row.message_id: row for row in await self._messages.claim(keys)}
        ids = [key.message_id for key in keys if key.message_id in claimed]
        if not ids:
            return {}
        results = zip(ids, await effects(ids), strict=True)
        outcomes = [_outcome_of(keys[0].queue, claimed[id], result) for id, result in results]
        await self._messages.record(outcomes)
        return {outcome.message_id: outcome for outcome in outcomes}

    async def reject(self, key: MessageKey, refusal: Refusal) -> MessageRead:
        """Raises Poison if another body has used the message id."""
        await self._messages.settle(
            key,
            MessageStatus.REJECTED,
            reason=refusal.reason,
            detail=refusal.detail,
            facts=refusal.facts or None,
        )
        return await self._outcome(key)

    async def bury(self, key: MessageKey, reason: str, detail: str) -> MessageRead:
        """Raises Poison if another body has used the message id."""
        await self._messages.settle(key, MessageStatus.DEAD, reason=reason, detail=detail)
        return await self._outcome(key)

    async def count_failure(self, key: MessageKey, detail: str) -> int:
        return await self._messages.count_failure(key, detail)

    async def _outcome(self, key: MessageKey) -> MessageRead:
        message = await self._messages.find(key.queue, key.message_id)
        assert message
        if message.fingerprint not in (None, key.fingerprint):
            raise Poison(ID_REUSED, "this message id was already used for another body")
        return MessageRead.of(message)


def _outcome_of(queue: Queue, claimed: Claimed, result: int | Refusal) -> MessageRead:
    common = {"queue": queue, **claimed._asdict()}
    if not isinstance(result, Refusal):
        return MessageRead(status=MessageStatus.APPLIED, result_id=result, **common)
    return MessageRead(
        status=MessageStatus.REJECTED,
        reason=result.reason,
        detail=result.detail,
        facts=result.facts or None,
        **common,
    )
