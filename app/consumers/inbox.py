"""Where a message's outcome is kept: recorded under its id, or nowhere if it has none."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic import BaseModel

from app.consumers.handlers import Effect
from app.consumers.parsing import is_usable
from app.container import Container
from app.errors import Poison, Refusal
from app.messaging.broker import Delivery
from app.schemas.messages import ID_REUSED, MessageKey, MessageRead, MessageStatus, fingerprint

MOST_ATTEMPTS = 5
WORK_SECONDS = 10

Limiter = AbstractAsyncContextManager[Any]


class Inbox(ABC):
    """The inbox of one delivery."""

    def __init__(self, container: Container, delivery: Delivery) -> None:
        self._container = container
        self._delivery = delivery
        self._failures = 0  # that are counted in memory

    @abstractmethod
    async def apply(self, effect: Effect, body: BaseModel, limiter: Limiter) -> MessageRead:
        """Run the effect, and keep its outcome: applied, or rejected if it raises a Refusal. Raises
        Unavailable, and any other error of the effect."""

    @abstractmethod
    async def bury(self, poison: Poison) -> MessageRead:
        """Keep that the message is dead. Raises Unavailable."""

    @abstractmethod
    async def count_failure(self, error: Exception) -> None:
        """Count an unexpected error. Raises Poison when it has happened too often, and whatever
        keeps it from being counted."""

    def _dead(self, poison: Poison) -> MessageRead:
        return self._outcome(MessageStatus.DEAD, reason=poison.reason, detail=poison.detail)

    def _outcome(self, status: MessageStatus, **fields: Any) -> MessageRead:
        """An outcome that is recorded nowhere."""
        return MessageRead(
            message_id=self._delivery.message_id or "",
            queue=self._delivery.queue,
            status=status,
            attempts=self._failures,
            first_seen_at=datetime.now(UTC),
            **fields,
        )


class RecordedInbox(Inbox):
    """Keeps the outcome in the transaction of the effect, so that a message acts once."""

    def __init__(self, container: Container, delivery: Delivery) -> None:
        super().__init__(container, delivery)
        body = fingerprint(delivery.body)
        self.key = MessageKey(delivery.queue, delivery.message_id or "", body)

    async def apply(self, effect: Effect, body: BaseModel, limiter: Limiter) -> MessageRead:
        try:
            async with self._container.unit_of_work(WORK_SECONDS, limiter) as uow:
                return await uow.messages.apply(self.key, partial(effect, uow, body))
        except Refusal as refusal:
            # What the effect has done is rolled back, so its outcome needs another transaction.
            async with self._container.unit_of_work(WORK_SECONDS) as uow:
                return await uow.messages.reject(self.key, refusal)

    async def bury(self, poison: Poison) -> MessageRead:
        if poison.reason == ID_REUSED:
            return self._dead(poison)  # the outcome of the first body stays
        try:
            async with self._container.unit_of_work(WORK_SECONDS) as uow:
                return await uow.messages.bury(self.key, poison.reason, poison.detail)
        except Poison:  # it is dead for a reason of its own, and its id belongs to another body
            return self._dead(poison)

    async def count_failure(self, error: Exception) -> None:
        """In the database, so that the attempts before a restart count too."""
        kind = type(error).__name__
        async with self._container.unit_of_work(WORK_SECONDS) as uow:
            attempts = await uow.messages.count_failure(self.key, kind)
        if attempts >= MOST_ATTEMPTS:
            raise Poison("failure", kind) from error


class AnonymousInbox(Inbox):
    """For a message without a usable id: the outcome is logged and replied, and kept nowhere."""

    async def apply(self, effect: Effect, body: BaseModel, limiter: Limiter) -> MessageRead:
        try:
            async with self._container.unit_of_work(WORK_SECONDS, limiter) as uow:
                result_id = await effect(uow, body)
        except Refusal as refusal:
            why = {"reason": refusal.reason, "detail": refusal.detail}
            return self._outcome(MessageStatus.REJECTED, **why)
        return self._outcome(MessageStatus.APPLIED, result_id=result_id)

    async def bury(self, poison: Poison) -> MessageRead:
        return self._dead(poison)

    async def count_failure(self, error: Exception) -> None:
        """In memory: with this delivery, nobody can tell any more that it was tried."""
        self._failures += 1
        if self._failures >= MOST_ATTEMPTS:
            raise Poison("failure", type(error).__name__) from error


def inbox_of(container: Container, delivery: Delivery) -> Inbox:
    kind = RecordedInbox if is_usable(delivery.message_id) else AnonymousInbox
    return kind(container, delivery)
