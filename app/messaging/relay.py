"""Publishes the rows of the outbox, each at least once, always with the same message id."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

import structlog
from structlog.contextvars import bound_contextvars

from app.messaging.broker import Broker, Outgoing
from app.metrics import PUBLISHED
from app.models.messages import OutboxMessage
from app.queues import Queue
from app.runtime import tracing
from app.runtime.failpoints import Failpoints
from app.runtime.origin import ORIGINS

log = structlog.get_logger(__name__)

# A writer sends its own rows right after its commit. The loop takes those that are older than this.
_GRACE = timedelta(seconds=2)
_BATCH = 20


class Outbox(Protocol):
    """What the relay needs of the repository, in one transaction: rows are locked until it ends,
    and removed if it ends without an error."""

    async def take(self, ids: Sequence[int]) -> Sequence[int]: ...
    async def take_oldest(self, limit: int, older_than: timedelta) -> Sequence[int]: ...
    async def remove(self, row_id: int) -> OutboxMessage: ...


class Relay:
    def __init__(
        self,
        outbox: Callable[[], AbstractAsyncContextManager[Outbox]],
        broker: Broker,
        failpoints: Failpoints,
    ) -> None:
        self._outbox = outbox
        self._broker = broker
        self._failpoints = failpoints

    async def send(self, ids: Sequence[int]) -> None:
        """Send these rows now. Raises Unavailable; then the loop sends them later."""
        if ids:
            await self._drain(lambda outbox: outbox.take(ids))

    async def tick(self) -> None:
        while await self._drain(lambda outbox: outbox.take_oldest(_BATCH, _GRACE)):
            pass

    async def _drain(self, take: Callable[[Outbox], Awaitable[Sequence[int]]]) -> int:
        async with self._outbox() as outbox:
            ids = await take(outbox)
            for row_id in ids:  # one by one: only one body is in memory
                await self._publish(await outbox.remove(row_id))
                self._failpoints.reach("relay.after_confirm")
        return len(ids)

    async def _publish(self, row: OutboxMessage) -> None:
        with tracing.producing(f"send {row.queue}", row.headers):
            await self._broker.publish(
                Outgoing(row.queue, row.body.encode(), row.message_id, row.headers)
            )
        PUBLISHED.labels(row.queue).inc()
        if row.queue == Queue.REPORT:
            day = row.headers["report_date"]
            ids = {name: row.headers[name] for name in ORIGINS if name in row.headers}
            with bound_contextvars(**ids):
                log.info(f"Sent report message to RabbitMQ queue 'report' for date {day}")
