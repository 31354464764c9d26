"""Processes 3 and 4: `taskiq scheduler app.scheduler:scheduler`, and its worker,
`taskiq worker app.scheduler:broker`.

The clock only wakes the report task: which days are owed, the database knows. So a night without a
scheduler, two schedulers, or a change of the clocks all give every day one closed run.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

from aio_pika.exceptions import AMQPError
from taskiq import (
    Context,
    InMemoryBroker,
    TaskiqDepends,
    TaskiqEvents,
    TaskiqScheduler,
    TaskiqState,
)
from taskiq.api import run_scheduler_task
from taskiq.schedule_sources import LabelScheduleSource
from taskiq.serializers import JSONSerializer
from taskiq_aio_pika import AioPikaBroker, Queue, QueueType
from taskiq_redis import ListRedisScheduleSource, RedisAsyncResultBackend

from app import logs
from app.container import Container
from app.messaging.amqp import explain
from app.runtime.loops import Step, heartbeat, running
from app.settings import load_settings

settings = load_settings()

CATCH_UP_SECONDS = 600
_BUILD_SECONDS = 300
_REDIS_LIMITS: dict[str, Any] = {"socket_timeout": 2, "socket_connect_timeout": 2}

# JSON everywhere: the default serializer unpickles, so whoever can write to Redis could run code.
results: RedisAsyncResultBackend[None] = RedisAsyncResultBackend(
    settings.results_url,
    serializer=JSONSerializer(),
    result_ex_time=86_400,
    prefix_str="result",
    **_REDIS_LIMITS,
)
schedules = ListRedisScheduleSource(
    settings.schedules_url,
    serializer=JSONSerializer(),
    skip_past_schedules=True,
    **_REDIS_LIMITS,
)


class Broker(AioPikaBroker):
    async def startup(self) -> None:
        """Without RabbitMQ say so in one line and end: whoever started us starts us again."""
        try:
            await super().startup()
        except (AMQPError, OSError) as error:
            raise SystemExit(explain(error, f"{self.url}".rpartition("@")[2])) from None


# A classic queue: a quorum queue that loses its broker right after its creation never recovers.
broker = Broker(
    settings.rabbitmq_url,
    task_queues=[Queue(name="taskiq", type=QueueType.CLASSIC)],
    dead_letter_queue=Queue(name="taskiq.dead_letter", type=QueueType.CLASSIC),
    reconnect_interval=1,
    heartbeat=15,
).with_result_backend(results)


async def ensure_reports(container: Container) -> None:
    """Build every day that is owed, each in a transaction of its own, and send what tells of it."""
    async with container.reading() as uow:
        days = await uow.reports.days_owed()
    for day in days:
        async with container.unit_of_work(_BUILD_SECONDS) as uow:
            await uow.reports.build(day)
        await container.relay.send(uow.changes.outbox_ids)


def catch_up(container: Container) -> tuple[Step, float]:
    """Makes up for nights without a scheduler or a worker: at the start, and from time to time."""

    async def step() -> None:
        await ensure_reports(container)

    return step, CATCH_UP_SECONDS


def get_container(context: Annotated[Context, TaskiqDepends()]) -> Container:
    container: Container = context.state.container
    return container


@broker.task(
    task_name="nightly_reports",
    schedule=[
        {
            "cron": "0 0 * * *",  # every day at midnight
            "cron_offset": settings.report_timezone,
            "args": [],
            "kwargs": {},
            "schedule_id": "nightly_reports",
        },
    ],
)
async def nightly_reports(container: Annotated[Container, TaskiqDepends(get_container)]) -> None:
    await ensure_reports(container)


scheduler = TaskiqScheduler(broker, sources=[LabelScheduleSource(broker), schedules])


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start_worker(state: TaskiqState) -> None:
    logs.configure(settings.log_level, settings.log_format, "taskiq_worker")
    state.stack = AsyncExitStack()
    state.container = await state.stack.enter_async_context(Container.open(settings))
    loops = [*state.container.loops_of_publisher, *heartbeat(settings.heartbeat_file)]
    await state.stack.enter_async_context(running(catch_up(state.container), *loops))


@broker.on_event(TaskiqEvents.CLIENT_STARTUP)
async def start_scheduler(state: TaskiqState) -> None:
    logs.configure(settings.log_level, settings.log_format, "scheduler")
    state.stack = AsyncExitStack()
    await state.stack.enter_async_context(running(*heartbeat(settings.heartbeat_file)))


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN, TaskiqEvents.CLIENT_SHUTDOWN)
async def stop(state: TaskiqState) -> None:
    await state.stack.aclose()


@asynccontextmanager
async def in_process(container: Container) -> AsyncIterator[None]:
    """The scheduler and its worker inside one process: the embedded mode, without RabbitMQ."""
    local = InMemoryBroker()
    local.register_task(
        nightly_reports.original_func, nightly_reports.task_name, **nightly_reports.labels
    )
    local.state.container = container
    clock = TaskiqScheduler(local, sources=[LabelScheduleSource(local)])
    async with running(catch_up(container)):
        ticking = asyncio.create_task(run_scheduler_task(clock, run_startup=True))
        try:
            yield
        finally:
            ticking.cancel()
            await asyncio.gather(ticking, return_exceptions=True)
            await local.shutdown()
