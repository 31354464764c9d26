"""Sends what the outbox holds: at least once, with the message id it was written with."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

import structlog

from app.messaging.broker import Broker, Outgoing
from app.metrics import PUBLISHED
from app.models import OutboxMessage
from app.runtime.failpoints import Failpoints
from app.schemas.messages import Queue

log = structlog.get_logger(__name__)

# The writer sends its own rows right after its commit; the loop takes what is left after this.
_GRACE = timedelta(seconds=2)
_BATCH = 20


class Outbox(Protocol):
    """The part of the repository that is used here. Rows stay locked until the context ends; if it
    ends with an error, they are still there."""

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
        """Send these rows now. Raises `Unavailable`; then they stay for the loop."""
        if ids:
            await self._drain(lambda outbox: outbox.take(ids))

    async def step(self) -> None:
        while await self._drain(lambda outbox: outbox.take_oldest(_BATCH, _GRACE)):
            pass

    async def _drain(self, take: Callable[[Outbox], Awaitable[Sequence[int]]]) -> int:
        async with self._outbox() as outbox:
            ids = await take(outbox)
            for row_id in ids:  # one body in memory, however many there are
                await self._publish(await outbox.remove(row_id))
                self._failpoints.reach("relay.after_confirm")
        return len(ids)

    async def _publish(self, row: OutboxMessage) -> None:
        await self._broker.publish(
            Outgoing(row.queue, row.body.encode(), row.message_id, row.headers)
        )
        PUBLISHED.labels(row.queue).inc()
        if row.queue == Queue.REPORT:
            day = row.headers["report_date"]
            log.info(f"Sent report message to RabbitMQ queue 'report' for date {day}")
