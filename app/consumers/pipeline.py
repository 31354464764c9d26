"""What happens to every delivery, from its arrival to its acknowledgement.

It ends in one of three ways: applied or rejected, both recorded with the message id in the effect's
own transaction, or dead, in `<queue>.dead`. A failure of a dependency ends nothing: the delivery is
held and tried again for as long as it lasts.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

import structlog
from pydantic import BaseModel

from app.consumers.handlers import BATCH, HANDLERS, BatchEffect
from app.consumers.inbox import WORK_SECONDS, Inbox, RecordedInbox, inbox_of
from app.consumers.parsing import parse
from app.consumers.retry import retry_until_available
from app.container import Container
from app.errors import Poison, Refusal, Unavailable
from app.messaging.broker import Delivery
from app.metrics import MESSAGES
from app.queues import OWN_QUEUES
from app.runtime import tracing
from app.runtime.micro_batcher import MicroBatcher
from app.schemas.messages import MessageKey, MessageRead, MessageStatus
from app.unit_of_work import UnitOfWork

log = structlog.get_logger(__name__)


class _Message(NamedTuple):
    key: MessageKey
    body: BaseModel
    # For the trace of the batch, if there are traces.
    trace: Any


class Pipeline:
    def __init__(self, container: Container) -> None:
        self._container = container
        self._limiter = asyncio.Semaphore(container.settings.worker_concurrency)
        self._batchers = {
            queue: MicroBatcher(partial(self._apply_batch, handler.batch_effect), BATCH)
            for queue, handler in HANDLERS.items()
            if handler.batch_effect
        }

    def has_batch(self) -> bool:
        """Whether one is at work."""
        return any(batcher.is_working for batcher in self._batchers.values())

    async def receive(self, delivery: Delivery) -> None:
        """Returns when the delivery may be acknowledged. Raises nothing but our own end."""
        trace = tracing.consuming(
            f"process {delivery.queue}", delivery.original, message_id=delivery.message_id or ""
        )
        with structlog.contextvars.bound_contextvars(message_id=delivery.message_id), trace:
            outcome = await self._settle(delivery)
            self._container.failpoints.reach("consumer.before_ack")
            MESSAGES.labels(delivery.queue, outcome.status).inc()
            if delivery.reply_to in OWN_QUEUES:
                log.warning("no reply to a queue of the service", reply_to=delivery.reply_to)
            elif delivery.reply_to:
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
            _log(outcome)
        except Poison as poison:
            burying = partial(self._bury, delivery, poison, inbox, first_seen)
            outcome = await retry_until_available(delivery.queue, burying)
        return outcome

    async def _apply(self, delivery: Delivery, inbox: Inbox) -> MessageRead:
        handler = HANDLERS[delivery.queue]
        body = parse(delivery, handler.schema)
        if handler.batch_effect and isinstance(inbox, RecordedInbox):
            message = _Message(inbox.key, body, tracing.here())
            submitted = self._batchers[delivery.queue].submit(message)
            if outcome := await submitted:
                return outcome
        return await inbox.apply(handler.effect, body, self._limiter)

    async def _apply_batch(
        self, effect: BatchEffect, messages: Sequence[_Message]
    ) -> Sequence[MessageRead | None]:
        """Many messages in one transaction. None for those that must be tried alone: repeats of
        settled ones, other bodies with the id of an earlier message, or all of them if one makes
        the transaction fail."""
        firsts: dict[str, MessageKey] = {}
        keys = [message.key for message in messages]
        for key in keys:
            firsts.setdefault(key.message_id, key)
        bodies = {m.key.message_id: m.body for m in messages if firsts[m.key.message_id] == m.key}

        async def effects(uow: UnitOfWork, ids: Sequence[str]) -> Sequence[int | Refusal]:
            return await effect(uow, [bodies[id] for id in ids])

        try:
            with tracing.batch("apply batch", [message.trace for message in messages]):
                async with self._container.unit_of_work(WORK_SECONDS) as uow:
                    outcomes = await uow.messages.apply_all(
                        list(firsts.values()), partial(effects, uow)
                    )
        except Unavailable:
            raise
        except Exception as error:
            log.warning("messages are tried one by one", count=len(messages), error=repr(error))
            return [None] * len(messages)
        return [
            outcomes.get(key.message_id) if firsts[key.message_id] == key else None for key in keys
        ]

    async def _bury(
        self, delivery: Delivery, poison: Poison, inbox: Inbox, first_seen: datetime
    ) -> MessageRead:
        """Put the message into `<queue>.dead`, confirmed, with its body untouched."""
        outcome = await inbox.bury(poison)
        why = _why_dead(delivery, poison, outcome, first_seen)
        await self._container.broker.bury(delivery, why)
        # The poison's reason, not the outcome's: an earlier message with this id may be applied.
        reason = {"reason": poison.reason, "detail": poison.detail}
        log.warning("message dead", queue=delivery.queue, **reason)
        return outcome


def _log(outcome: MessageRead) -> None:
    if outcome.status is MessageStatus.REJECTED:
        why = {"reason": outcome.reason, "detail": outcome.detail}
        log.warning("message refused", queue=outcome.queue, **why)
    else:
        settled = {"outcome": outcome.status, "result_id": outcome.result_id}
        log.info("message settled", queue=outcome.queue, **settled)


def _why_dead(
    delivery: Delivery, poison: Poison, outcome: MessageRead, first_seen: datetime
) -> dict[str, str]:
    return {
        "x-reason": poison.reason,
        "x-detail": poison.detail[:500],
        "x-field": poison.field,
        "x-attempts": str(max(outcome.attempts, 1)),
        "x-first-seen": min(first_seen, outcome.first_seen_at).isoformat(),
        "x-original-queue": delivery.queue.value,
    }
