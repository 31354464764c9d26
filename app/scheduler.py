"""Processes 3 and 4: `taskiq scheduler app.scheduler:scheduler`, and its worker,
`taskiq worker app.scheduler:broker`.

The clock only wakes the report task; the database knows which days are owed. So each day gets one
closed run, also after a night without a scheduler, with two schedulers, or when clocks change.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import structlog
from aio_pika.exceptions import AMQPError
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from taskiq import (
    Context,
    InMemoryBroker,
    ScheduledTask,
    TaskiqDepends,
    TaskiqEvents,
    TaskiqScheduler,
    TaskiqState,
)
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.api import run_scheduler_task
from taskiq.cli.scheduler.run import is_cron_task_now
from taskiq.schedule_sources import LabelScheduleSource
from taskiq.serializers import JSONSerializer
from taskiq_aio_pika import AioPikaBroker, Queue, QueueType
from taskiq_redis import ListRedisScheduleSource, RedisAsyncResultBackend

from app import logs
from app.container import Container
from app.errors import Unavailable
from app.messaging.amqp import explain
from app.runtime.loops import Loop, heartbeat, running
from app.settings import load_settings

settings = load_settings()
log = structlog.get_logger(__name__)

CATCH_UP_SECONDS = 600
_BUILD_SECONDS = 300
_RECONNECT_SECONDS = 1
_REDIS_LIMITS: dict[str, Any] = {"socket_timeout": 2, "socket_connect_timeout": 2}

# JSON everywhere: TaskIQ's default serializer unpickles, so anyone who can write to Redis could run
# code here.
results: RedisAsyncResultBackend[None] = RedisAsyncResultBackend(
    settings.results_url,
    serializer=JSONSerializer(),
    result_ex_time=86_400,
    prefix_str="result",
    **_REDIS_LIMITS,
)


class Schedules(ListRedisScheduleSource):
    """Those that were added to Redis. What cannot be read stops no other, and is named once."""

    def __init__(self, url: str, serializer: TaskiqSerializer, **options: Any) -> None:
        super().__init__(url, serializer=serializer, **options)
        self._unreadable: set[str] = set()
        self.failure: str | None = "not read yet"

    async def get_schedules(self) -> list[ScheduledTask]:
        """Without those of the past: the catch-up does not need them."""
        unreadable: dict[str, str] = {}
        self.failure = "Redis does not answer"
        async with Redis(connection_pool=self._connection_pool) as redis:
            ids = [id for key in self._keys() for id in await _listed(redis, key, unreadable)]
            values = await redis.mget(map(self._get_data_key, ids)) if ids else []
        found = [
            task
            for id, value in zip(ids, values, strict=True)
            if value is not None and (task := self._parsed(id, value, unreadable))
        ]
        self._tell(unreadable)
        self.failure = None
        return found

    async def shutdown(self) -> None:
        await self._connection_pool.disconnect()

    def _keys(self) -> Sequence[str]:
        now = self._get_time_key(datetime.now(UTC))
        return self._get_cron_key(), self._get_interval_key(), now

    def _parsed(self, id: str, value: Any, unreadable: dict[str, str]) -> ScheduledTask | None:
        try:
            task = ScheduledTask.model_validate(self._serializer.loadb(value))
            if task.cron is not None:
                is_cron_task_now(task.cron, datetime.now(UTC), task.cron_offset)
        except Exception as error:
            unreadable[self._get_data_key(id)] = f"{type(error).__name__}"
            return None
        return task

    def _tell(self, unreadable: dict[str, str]) -> None:
        for key in sorted(unreadable.keys() - self._unreadable):
            log.warning(
                "schedule skipped: write it as JSON or delete it", key=key, error=unreadable[key]
            )
        self._unreadable = set(unreadable)


async def _listed(redis: Redis, key: str, unreadable: dict[str, str]) -> list[str]:
    try:
        found: list[Any] = await redis.lrange(key, 0, -1)
    except ResponseError as error:  # somebody has put something else there
        unreadable[key] = str(error)
        return []
    return [id.decode(errors="backslashreplace") for id in found]


schedules = Schedules(
    settings.schedules_url,
    serializer=JSONSerializer(),
    **_REDIS_LIMITS,
)


class Broker(AioPikaBroker):
    async def startup(self) -> None:
        """Wait for RabbitMQ for as long as it takes, and say once why."""
        with _stopping_at_signals(self.is_worker_process) as stopped:
            told = ""
            while not stopped.is_set():
                try:
                    return await super().startup()
                except (AMQPError, OSError) as error:
                    why = explain(error, f"{self.url}".rpartition("@")[2])
                await self._disconnect()
                if why != told:
                    log.warning(why)
                told = why
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), _RECONNECT_SECONDS)
        raise SystemExit(0)

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


# Classic queues: a quorum queue whose broker dies right after its creation never recovers.
broker = Broker(
    settings.rabbitmq_url,
    task_queues=[Queue(name="taskiq", type=QueueType.CLASSIC)],
    dead_letter_queue=Queue(name="taskiq.dead_letter", type=QueueType.CLASSIC),
    reconnect_interval=_RECONNECT_SECONDS,
    heartbeat=15,
).with_result_backend(results)


async def ensure_reports(container: Container, running_day: bool = False) -> None:
    """Build every day that is owed, each in a transaction of its own, and with `running_day` the
    orders of today so far; then send their messages.

    Raises Unavailable: without PostgreSQL the days stay owed, and without RabbitMQ all of them are
    built, and the messages stay in the outbox for the relay."""
    enqueued: list[int] = []
    try:
        await _build_owed(container, enqueued)
        if running_day:
            async with container.unit_of_work(_BUILD_SECONDS) as uow:
                await uow.reports.build_running_day()
            enqueued += uow.after_commit.outbox_ids
    finally:
        await container.relay.send(enqueued)


async def _build_owed(container: Container, enqueued: list[int]) -> None:
    async with container.reading(_BUILD_SECONDS) as uow:
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
async def nightly_reports(container: Annotated[Container, TaskiqDepends(get_container)]) -> None:
    await ensure_reports(container, running_day=True)


scheduler = TaskiqScheduler(broker, sources=[LabelScheduleSource(broker), schedules])


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start_worker(state: TaskiqState) -> None:
    if "stack" in state:  # the broker tries again to start
        return
    logs.configure(settings.log_level, settings.log_format, "taskiq_worker")
    state.stack = AsyncExitStack()
    container = await state.stack.enter_async_context(Container.open(settings))
    state.container = container

    async def check() -> None:
        await broker.check()
        await container.broker.ping()  # the reports are sent on a connection of its own

    loops = [*container.publishing_loops, *heartbeat(settings.heartbeat_file, check)]
    await state.stack.enter_async_context(running(catch_up(container), *loops))


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


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN, TaskiqEvents.CLIENT_SHUTDOWN)
async def stop(state: TaskiqState) -> None:
    await state.stack.aclose()


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
