"""Process 2: the consumers of the four queues, and the relay of the outbox."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import structlog

from app import metrics
from app.consumers.handlers import prefetch
from app.consumers.pipeline import Pipeline
from app.container import Container
from app.errors import Unavailable
from app.runtime.garbage import tune_gc
from app.runtime.loops import heartbeat, running
from app.settings import Settings

log = structlog.get_logger(__name__)

_LONGEST_STOP = 9.5


@asynccontextmanager
async def consuming(container: Container) -> AsyncIterator[Pipeline]:
    pipeline = Pipeline(container)
    queues = prefetch(container.settings.worker_concurrency)
    try:
        async with container.broker.consuming(queues, pipeline.receive):
            troubles = container.broker.troubles
            log.info("consuming", **{q.value: n for q, n in queues.items() if q not in troubles})
            yield pipeline
    finally:
        log.info("stopped consuming")


async def run(settings: Settings) -> None:
    """Consume until SIGTERM or SIGINT; then finish what is in flight and give the rest back."""
    working = asyncio.create_task(_run(settings))
    loop = asyncio.get_running_loop()

    def stop() -> None:
        working.cancel()
        # aiormq can wait for itself for ever. What is not acknowledged by then goes back anyway.
        loop.call_later(_LONGEST_STOP, os._exit, 0)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    with suppress(asyncio.CancelledError):
        await working


async def _run(settings: Settings) -> None:
    metrics.serve(settings.metrics_host, settings.metrics_port)
    async with (
        Container.open(settings) as container,
        running(*container.publishing_loops),
        consuming(container),
        running(*heartbeat(settings.heartbeat_file, partial(check_consuming, container))),
    ):
        tune_gc()
        await asyncio.Event().wait()


async def check_consuming(container: Container) -> None:
    """Raises Unavailable unless every queue has a consumer here."""
    if troubles := container.broker.troubles:
        raise Unavailable("; ".join(troubles.values()))
