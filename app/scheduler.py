"""Processes 3 and 4: `taskiq scheduler app.scheduler:scheduler`, and its worker,
`taskiq worker app.scheduler:broker`.

The clock only wakes the report task; the database knows which days are owed. So each day gets one
closed run, also after a night without a scheduler, with two schedulers, or when clocks change.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from multiprocessing import parent_process
from typing import Annotated

from structlog.contextvars import bound_contextvars
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
from taskiq_aio_pika import Queue, QueueType
from taskiq_redis import RedisAsyncResultBackend

from app import logs, metrics
from app.container import Container
from app.errors import Unavailable
from app.messaging.schedules import REDIS_LIMITS, Schedules
from app.messaging.task_broker import RECONNECT_SECONDS, TaskBroker
from app.queues import DEAD_TASKS, TASKS
from app.redis_connections import connection_options
from app.runtime import tracing
from app.runtime.loops import Loop, heartbeat, running
from app.settings import load_settings

settings = load_settings()

CATCH_UP_SECONDS = 600
_BUILD_SECONDS = 300

# JSON everywhere: TaskIQ's default serializer unpickles, so anyone who can write to Redis could run
# code here.
_options = connection_options(settings.results_address)
results: RedisAsyncResultBackend[None] = RedisAsyncResultBackend(
    _options.pop("url"),
    serializer=JSONSerializer(),
    result_ex_time=86_400,
    prefix_str=f"{settings.redis_prefix}result",
    **_options,
    **REDIS_LIMITS,
)

schedules = Schedules.open(settings)


# Classic queues: a quorum queue whose broker dies right after its creation never recovers.
broker = TaskBroker(
    settings.rabbitmq_address,
    task_queues=[Queue(name=TASKS, type=QueueType.CLASSIC)],
    dead_letter_queue=Queue(name=DEAD_TASKS, type=QueueType.CLASSIC),
    reconnect_interval=RECONNECT_SECONDS,
    heartbeat=15,
).with_result_backend(results)


async def ensure_reports(container: Container, running_day: bool = False) -> None:
    """Build every day that is owed, each in a transaction of its own, and with `running_day` the
    orders of today so far; then send their messages.

    Raises Unavailable: without PostgreSQL the days stay owed, and without RabbitMQ all of them are
    built, and the messages stay in the outbox for the relay."""
    enqueued: list[int] = []
    with tracing.work("build owed reports"):
        try:
            await _build_owed(container, enqueued)
            if running_day:
                async with container.unit_of_work(_BUILD_SECONDS) as uow:
                    await uow.reports.build_running_day()
                enqueued += uow.after_commit.outbox_ids
        finally:
            await container.relay.send(enqueued)


async def _build_owed(container: Container, enqueued: list[int]) -> None:
    async with container.long_reading(_BUILD_SECONDS) as uow:
        looked_at = await uow.reports.now()
        days = await uow.reports.days_owed()
    for day in days:
        async with container.unit_of_work(_BUILD_SECONDS) as uow:
            await uow.reports.build(day)
        enqueued += uow.after_commit.outbox_ids
    async with container.unit_of_work() as uow:
        await uow.reports.all_built(looked_at)


def catch_up(container: Container) -> Loop:
    """Makes up for nights without a scheduler or a worker: at the start, and from time to time."""

    async def tick() -> None:
        await ensure_reports(container)

    return tick, CATCH_UP_SECONDS


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
async def nightly_reports(
    container: Annotated[Container, TaskiqDepends(get_container)],
    context: Annotated[Context, TaskiqDepends()],
) -> None:
    with bound_contextvars(task_id=context.message.task_id):
        await ensure_reports(container, running_day=True)


scheduler = TaskiqScheduler(broker, sources=[LabelScheduleSource(broker), schedules])


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start_worker(state: TaskiqState) -> None:
    if "stack" in state:  # the broker tries again to start
        return
    logs.configure(settings.log_level, settings.log_format, "taskiq_worker")
    tracing.start(settings, "taskiq_worker")
    metrics.serve(settings.metrics_host, settings.metrics_port)
    state.stack = AsyncExitStack()
    container = await state.stack.enter_async_context(Container.open(settings))
    state.container = container

    async def check() -> None:
        await broker.check()
        await container.broker.ping()  # the reports are sent on a connection of its own

    loops = [*container.publishing_loops, *heartbeat(settings.heartbeat_file, check)]
    await state.stack.enter_async_context(running(catch_up(container), *loops))
    _end_with_parent()


def _end_with_parent() -> None:
    """TaskIQ's parent process stops its workers; they would outlive it if it was killed."""
    parent, loop = parent_process(), asyncio.get_running_loop()
    if parent is None:
        return

    def end() -> None:
        loop.remove_reader(parent.sentinel)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(parent.sentinel, end)


@broker.on_event(TaskiqEvents.CLIENT_STARTUP)
async def start_scheduler(state: TaskiqState) -> None:
    if "stack" in state:
        return
    logs.configure(settings.log_level, settings.log_format, "scheduler")
    state.stack = AsyncExitStack()

    async def check() -> None:
        await broker.check()
        if schedules.failure:
            raise Unavailable(f"the schedules in Redis are not read: {schedules.failure}")

    await state.stack.enter_async_context(running(*heartbeat(settings.heartbeat_file, check)))
    # Not in a program that only sends a task.
    if broker.is_scheduler_process and settings.metrics_port:
        await _monitor(state.stack)


async def _monitor(stack: AsyncExitStack) -> None:
    """Here, because there is one scheduler."""
    metrics.serve(settings.metrics_host, settings.metrics_port)
    container = await stack.enter_async_context(Container.open(settings))
    await stack.enter_async_context(running(*container.monitoring_loops(TASKS, DEAD_TASKS)))


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN, TaskiqEvents.CLIENT_SHUTDOWN)
async def stop(state: TaskiqState) -> None:
    await state.stack.aclose()
    tracing.stop()


@asynccontextmanager
async def in_process(container: Container) -> AsyncIterator[None]:
    """The scheduler and its worker inside this process, without RabbitMQ: all tasks of `broker`."""
    local = InMemoryBroker()
    for name, task in broker.get_all_tasks().items():
        local.register_task(task.original_func, name, **task.labels)
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
