"""Process 2: the consumers of the four queues, and the relay of the outbox."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from app.consumers import Consumer
from app.container import Container
from app.infra.loops import heartbeat, running
from app.schemas.messages import CONSUMED
from app.settings import Settings

log = structlog.get_logger(__name__)


@asynccontextmanager
async def consuming(container: Container) -> AsyncIterator[None]:
    consumer = Consumer(container)
    concurrency = container.settings.worker_concurrency
    try:
        async with container.broker.consuming(CONSUMED, consumer.receive, concurrency):
            queues = [queue.value for queue in CONSUMED]
            log.info("consuming", queues=queues, concurrency=concurrency)
            yield
    finally:
        log.info("stopped consuming")


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; then finish what is in hand and give the rest back."""
    work = asyncio.create_task(_work(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with suppress(asyncio.CancelledError):
        await work


async def _work(settings: Settings) -> None:
    async with (
        Container.open(settings) as container,
        running(*container.loops_of_publisher, *heartbeat(settings.heartbeat_file)),
        consuming(container),
    ):
        await asyncio.Event().wait()
