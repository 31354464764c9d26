"""What happens to every delivery, from its arrival to its acknowledgement.

It ends in one of three ways: applied or rejected, both recorded with the message id in the effect's
own transaction, or dead, in `<queue>.dead`. A failure of a dependency ends nothing: the delivery is
held and tried again for as long as it lasts.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import structlog
from pydantic import BaseModel

from app.consumers.handlers import BATCH, HANDLERS, BatchEffect
from app.consumers.inbox import WORK_SECONDS, Inbox, RecordedInbox, inbox_of
from app.consumers.parsing import parse
from app.consumers.retry import retry_until_available
from app.container import Container
from app.errors import Poison, Refusal, Unavailable
from app.messaging.broker import Delivery, Outgoing
from app.metrics import MESSAGES
from app.runtime.micro_batcher import MicroBatcher
from app.schemas.messages import MessageRead, MessageStatus, Queue
from app.unit_of_work import UnitOfWork

log = structlog.get_logger(__name__)


class Pipeline:
    def __init__(self, container: Container) -> None:
        self._container = container
        self._limiter = asyncio.Semaphore(container.settings.worker_concurrency)
        self._batchers = {
            queue: MicroBatcher(partial(self._apply_batch, queue, handler.batch_effect), BATCH)
            for queue, handler in HANDLERS.items()
            if handler.batch_effect
        }

    async def receive(self, delivery: Delivery) -> None:
        """Returns when the delivery may be acknowledged. Raises nothing but our own end."""
        with structlog.contextvars.bound_contextvars(message_id=delivery.message_id):
            outcome = await self._settle(delivery)
            self._container.failpoints.reach("consumer.before_ack")
            MESSAGES.labels(delivery.queue, outcome.status).inc()
            if delivery.reply_to:
                await self._reply(delivery, outcome)

    async def _reply(self, delivery: Delivery, outcome: MessageRead) -> None:
        """Last, when the outcome stands: a lost reply loses nothing else."""
        try:
            await self._container.broker.reply(delivery, outcome.model_dump_json().encode())
        except Exception:
            log.exception("reply failed", queue=delivery.queue)

    async def _settle(self, delivery: Delivery) -> MessageRead:
        first_seen = datetime.now(UTC)
        inbox = inbox_of(self._container, delivery)
        try:
            applying = partial(self._apply, delivery, inbox)
            outcome = await retry_until_available(delivery.queue, applying, inbox.count_failure)
        except Poison as poison:
            burying = partial(self._bury, delivery, poison, inbox, first_seen)
            outcome = await retry_until_available(delivery.queue, burying)
        _log(outcome)
        return outcome

    async def _apply(self, delivery: Delivery, inbox: Inbox) -> MessageRead:
        body = parse(delivery, HANDLERS[delivery.queue].schema)
        batcher = self._batchers.get(delivery.queue)
        if batcher and isinstance(inbox, RecordedInbox):
            if outcome := await batcher.submit((delivery.message_id or "", body)):
                return outcome
        return await inbox.apply(HANDLERS[delivery.queue].effect, body, self._limiter)

    async def _apply_batch(
        self, queue: Queue, effect: BatchEffect, messages: Sequence[tuple[str, BaseModel]]
    ) -> Sequence[MessageRead | None]:
        """Many messages in one transaction. None for those that must be tried alone: repeats of
        settled ones, or all of them if one makes the transaction fail."""
        bodies = dict(messages)

        async def effects(uow: UnitOfWork, ids: Sequence[str]) -> Sequence[int | Refusal]:
            return await effect(uow, [bodies[id] for id in ids])

        try:
            async with self._container.unit_of_work(WORK_SECONDS) as uow:
                outcomes = await uow.messages.apply_all(queue, list(bodies), partial(effects, uow))
        except Unavailable:
            raise
        except Exception as error:
            log.warning("messages are tried one by one", count=len(messages), error=repr(error))
            return [None] * len(messages)
        return [outcomes.get(message_id) for message_id, _ in messages]

    async def _bury(
        self, delivery: Delivery, poison: Poison, inbox: Inbox, first_seen: datetime
    ) -> MessageRead:
        """Put the message into `<queue>.dead`, confirmed, with its body untouched."""
        outcome = await inbox.bury(poison)
        await self._container.broker.publish(_dead_letter(delivery, poison, outcome, first_seen))
        return outcome


def _log(outcome: MessageRead) -> None:
    why = {"queue": outcome.queue, "reason": outcome.reason, "detail": outcome.detail}
    if outcome.status is MessageStatus.DEAD:
        log.warning("message dead", **why)
    elif outcome.status is MessageStatus.REJECTED:
        log.warning("message refused", **why)
    else:
        log.info("message settled", queue=outcome.queue, outcome=outcome.status)


def _dead_letter(
    delivery: Delivery, poison: Poison, outcome: MessageRead, first_seen: datetime
) -> Outgoing:
    return Outgoing(
        queue=delivery.queue.dead,
        body=delivery.body,
        message_id=delivery.message_id or "",
        content_type=str(delivery.headers.get("content-type", "application/octet-stream")),
        headers={
            "x-reason": poison.reason,
            "x-detail": poison.detail[:500],
            "x-field": poison.field,
            "x-attempts": str(max(outcome.attempts, 1)),
            "x-first-seen": min(first_seen, outcome.first_seen_at).isoformat(),
            "x-original-queue": delivery.queue.value,
        },
    )
