"""The queue door: product, product_update, order, order_update.

Every delivery ends in one of three ways before it is acknowledged: applied, refused (both recorded
with the message id, in the effect's own transaction), or in `<queue>.dead`. Failures of the
surroundings end nothing: the delivery is held and tried again, as long as they last.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from pydantic import BaseModel

from app.container import Container
from app.errors import Poison, Refusal, Unavailable
from app.messaging.broker import Delivery, Outgoing
from app.metrics import MESSAGE_HOLDS, MESSAGES
from app.runtime.micro_batcher import MicroBatcher
from app.schemas.bodies import parse
from app.schemas.messages import CONSUMED, MessageRead, MessageStatus, Queue
from app.schemas.orders import OrderCreate, OrderUpdateMessage
from app.schemas.products import ProductCreate, ProductUpdateMessage
from app.unit_of_work import UnitOfWork

log = structlog.get_logger(__name__)

MOST_BYTES = 1024 * 1024
MOST_ATTEMPTS = 5
# Of one transaction: a commit, and the locks of hot products, are taken once for all.
ORDERS_TOGETHER = 128
ORDER_PREFETCH = 2 * ORDERS_TOGETHER  # the next ones arrive meanwhile
_WORK_SECONDS = 10
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


async def create_product(uow: UnitOfWork, body: ProductCreate) -> int:
    return (await uow.products.create(body)).id


async def update_product(uow: UnitOfWork, body: ProductUpdateMessage) -> int:
    return (await uow.products.update(body.product_id, body.changes())).id


async def place_order(uow: UnitOfWork, body: OrderCreate) -> int:
    return (await uow.orders.place(body)).id


async def place_orders(
    uow: UnitOfWork, bodies: Mapping[str, OrderCreate], message_ids: Sequence[str]
) -> Sequence[int | Refusal]:
    return await uow.orders.place_all([bodies[message_id] for message_id in message_ids])


async def update_order(uow: UnitOfWork, body: OrderUpdateMessage) -> int:
    return (await uow.orders.change_status(body.order_id, body.status)).id


EFFECTS: dict[Queue, Callable[[UnitOfWork, Any], Awaitable[int]]] = {
    Queue.PRODUCT: create_product,
    Queue.PRODUCT_UPDATE: update_product,
    Queue.ORDER: place_order,
    Queue.ORDER_UPDATE: update_order,
}


def prefetch(concurrency: int) -> dict[Queue, int]:
    """How many messages of each queue may be in hand. One at a time keeps their order."""
    most = dict.fromkeys(CONSUMED, concurrency)
    return most if concurrency == 1 else {**most, Queue.ORDER: ORDER_PREFETCH}


class Consumer:
    def __init__(self, container: Container) -> None:
        self._container = container
        self._orders = MicroBatcher(self._apply_orders, ORDERS_TOGETHER)
        self._limiter = asyncio.Semaphore(container.settings.worker_concurrency)
        self._phase = random.uniform(0, _LONGEST_PAUSE)  # no two processes wake together

    async def receive(self, delivery: Delivery) -> None:
        """Returns when the delivery may be acknowledged."""
        with structlog.contextvars.bound_contextvars(message_id=delivery.message_id):
            first_seen = datetime.now(UTC)
            try:
                body = _parse(delivery)
                outcome = await self._settle(delivery, body)
            except Poison as poison:
                outcome = await self._hold(
                    delivery, lambda: self._bury(delivery, poison, first_seen), for_ever=True
                )
            self._container.failpoints.reach("consumer.before_ack")
            MESSAGES.labels(delivery.queue, outcome.status).inc()
            if delivery.reply_to:
                # After the outcome stands, so a lost reply loses no more than the reply.
                await self._container.broker.reply(delivery, outcome.model_dump_json().encode())

    async def _settle(self, delivery: Delivery, body: BaseModel) -> MessageRead:
        try:
            outcome = await self._hold(delivery, lambda: self._apply(delivery, body))
        except Refusal as refusal:
            outcome = await self._hold(delivery, lambda: self._reject(delivery, refusal))
        if outcome.status is MessageStatus.REJECTED:
            why = {"reason": outcome.reason, "detail": outcome.detail}
            log.warning("message refused", queue=delivery.queue, **why)
        else:
            log.info("message settled", queue=delivery.queue, outcome=outcome.status)
        return outcome

    async def _apply(self, delivery: Delivery, body: BaseModel) -> MessageRead:
        if isinstance(body, OrderCreate) and delivery.message_id is not None:
            if outcome := await self._orders.submit((delivery.message_id, body)):
                return outcome
        return await self._apply_alone(delivery, body)

    async def _apply_alone(self, delivery: Delivery, body: BaseModel) -> MessageRead:
        effect = EFFECTS[delivery.queue]
        async with self._container.unit_of_work(_WORK_SECONDS, limiter=self._limiter) as uow:
            if delivery.message_id is None:
                result_id = await effect(uow, body)
                return _unrecorded(delivery, MessageStatus.APPLIED, result_id=result_id)
            return await uow.messages.apply(
                delivery.queue, delivery.message_id, lambda: effect(uow, body)
            )

    async def _apply_orders(
        self, orders: Sequence[tuple[str, OrderCreate]]
    ) -> Sequence[MessageRead | None]:
        """Many in one transaction. None for those that must be tried alone: repeats of settled
        ones, or all if one of them spoils it."""
        bodies = dict(orders)
        try:
            async with self._container.unit_of_work(_WORK_SECONDS) as uow:
                outcomes = await uow.messages.apply_all(
                    Queue.ORDER, list(bodies), lambda ids: place_orders(uow, bodies, ids)
                )
        except Unavailable:
            raise
        except Exception as error:
            log.warning("orders are tried one by one", count=len(orders), error=repr(error))
            return [None] * len(orders)
        return [outcomes.get(message_id) for message_id, _ in orders]

    async def _reject(self, delivery: Delivery, refusal: Refusal) -> MessageRead:
        if delivery.message_id is None:
            return _unrecorded(
                delivery, MessageStatus.REJECTED, reason=refusal.reason, detail=refusal.detail
            )
        async with self._container.unit_of_work(_WORK_SECONDS) as uow:
            return await uow.messages.reject(delivery.queue, delivery.message_id, refusal)

    async def _bury(self, delivery: Delivery, poison: Poison, first_seen: datetime) -> MessageRead:
        """Into `<queue>.dead`, confirmed, with the body untouched."""
        outcome = _unrecorded(
            delivery, MessageStatus.DEAD, reason=poison.reason, detail=poison.detail
        )
        if delivery.message_id is not None and poison.reason != "message-id":
            async with self._container.unit_of_work(_WORK_SECONDS) as uow:
                outcome = await uow.messages.bury(
                    delivery.queue, delivery.message_id, poison.reason, poison.detail
                )
        await self._container.broker.publish(_dead_letter(delivery, poison, outcome, first_seen))
        why = {"reason": poison.reason, "detail": poison.detail}
        log.warning("message dead", queue=delivery.queue, **why)
        return outcome

    async def _hold(
        self,
        delivery: Delivery,
        attempt: Callable[[], Awaitable[MessageRead]],
        for_ever: bool = False,
    ) -> MessageRead:
        """Try until the surroundings let it be done; what fails for unknown reasons is poison after
        a few attempts, counted in the database so that restarts count too."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return await attempt()
            except (Refusal, Poison):
                raise
            except Unavailable as error:
                # Loud once: there may be many, and the wait may be long.
                write = log.warning if pause == _FIRST_PAUSE else log.debug
                write("holding a message", queue=delivery.queue, error=str(error))
            except Exception as error:
                log.exception("message failed", queue=delivery.queue)
                if not for_ever:
                    await self._count_failure(delivery, error)
            MESSAGE_HOLDS.labels(delivery.queue).inc()
            # All that is held wakes at the same moments, so that orders share their next attempt.
            await asyncio.sleep(pause - (time.monotonic() + self._phase) % pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _count_failure(self, delivery: Delivery, error: Exception) -> None:
        if delivery.message_id is None:
            raise Poison("failure", type(error).__name__) from error
        try:
            async with self._container.unit_of_work(_WORK_SECONDS) as uow:
                attempts = await uow.messages.count_failure(
                    delivery.queue, delivery.message_id, type(error).__name__
                )
        except Unavailable:
            return
        if attempts >= MOST_ATTEMPTS:
            raise Poison("failure", type(error).__name__) from error


def _parse(delivery: Delivery) -> BaseModel:
    message_id = delivery.message_id
    if message_id is not None and not (0 < len(message_id) <= 255 and message_id.isprintable()):
        raise Poison("message-id", "the message id must be 1 to 255 printable characters")
    if message_id is None and delivery.redelivered:
        # It may have been applied before the connection broke; nobody can tell.
        raise Poison("ambiguous-redelivery", "delivered again without a message id")
    if len(delivery.body) > MOST_BYTES:
        raise Poison("too-large", f"the body is larger than {MOST_BYTES} bytes")
    return parse(delivery.queue, delivery.body)


def _unrecorded(delivery: Delivery, status: MessageStatus, **fields: Any) -> MessageRead:
    return MessageRead(
        message_id=delivery.message_id or "",
        queue=delivery.queue,
        status=status,
        first_seen_at=datetime.now(UTC),
        **fields,
    )


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
