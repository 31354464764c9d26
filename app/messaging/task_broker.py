"""TaskIQ's connection to RabbitMQ. It outlasts a RabbitMQ that is away, at the start too."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from aio_pika.exceptions import AMQPError
from taskiq import AckableMessage
from taskiq_aio_pika import AioPikaBroker

from app.errors import Unavailable
from app.messaging.amqp import explain
from app.messaging.rabbitmq_server import connection_class
from app.server_addresses import RabbitMQAddress

log = structlog.get_logger(__name__)

RECONNECT_SECONDS = 1
# For ten minutes, since all workers of an older release may have ended by then.
_RETURN_SECONDS = 5
_MOST_RETURNS = 120


class TaskBroker(AioPikaBroker):
    def __init__(self, address: RabbitMQAddress, **options: Any) -> None:
        super().__init__(
            address.url,
            ssl_context=address.tls,
            connection_class=connection_class(address),
            **options,
        )
        self._place = address.place
        self._returns: Counter[str] = Counter()
        self._returning: set[asyncio.Task[None]] = set()

    async def startup(self) -> None:
        """Wait for RabbitMQ for as long as it takes, and say once why."""
        with _stopping_at_signals(self.is_worker_process) as stopped:
            told = ""
            while not stopped.is_set():
                try:
                    return await super().startup()
                except (AMQPError, OSError) as error:
                    why = explain(error, self._place)
                await self._disconnect()
                if why != told:
                    log.warning(why)
                told = why
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), RECONNECT_SECONDS)
        raise SystemExit(0)

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Without tasks that this release does not know, which TaskIQ would drop: workers of a
        newer one find them in the queue again."""
        async for message in super().listen():
            if unknown := self._unknown_task(message.data):
                # The only way to the delivery itself.
                delivery: Any = getattr(message.ack, "__self__")
                returning = asyncio.create_task(self._return(delivery, *unknown))
                self._returning.add(returning)
                returning.add_done_callback(self._returning.discard)
            else:
                yield message

    def _unknown_task(self, data: bytes) -> tuple[str, str] | None:
        """Its name and id."""
        try:
            message = self.formatter.loads(data)
        except Exception:
            return None  # TaskIQ says what is wrong with it
        known = self.find_task(message.task_name) is not None
        return None if known else (message.task_name, message.task_id)

    async def _return(self, delivery: Any, name: str, task_id: str) -> None:
        if not self._returns[task_id]:
            log.warning("a task of another release goes back to the queue", task=name, id=task_id)
        self._returns[task_id] += 1
        is_dead = self._returns[task_id] > _MOST_RETURNS
        if is_dead:
            del self._returns[task_id]
            log.warning("a task that no worker knows is dead", task=name, id=task_id)
        else:
            await asyncio.sleep(_RETURN_SECONDS)
        with suppress(Exception):  # the connection has broken, and it is in the queue already
            await delivery.reject(requeue=not is_dead)

    async def _disconnect(self) -> None:
        for connection in (self.write_conn, self.read_conn):
            if connection is not None:
                await connection.close()
        self.write_conn = self.read_conn = None
        self.write_channel = self.read_channel = None

    async def check(self) -> None:
        """Raises Unavailable unless tasks can be sent, and, in a worker, are received."""
        connections = [self.write_conn, *([self.read_conn] if self.is_worker_process else [])]
        if not all(connection and connection.connected.is_set() for connection in connections):
            raise Unavailable("RabbitMQ is away")
        if self.read_channel is not None:
            channel: Any = await asyncio.wait_for(self.read_channel.get_underlay_channel(), 1)
            if not channel.consumers:
                raise Unavailable("the tasks are not consumed")


@contextmanager
def _stopping_at_signals(in_worker: bool) -> Iterator[asyncio.Event]:
    """TaskIQ's worker looks at its signals only once its broker has started."""
    stopped = asyncio.Event()
    if not in_worker:
        yield stopped
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopped.set))
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
