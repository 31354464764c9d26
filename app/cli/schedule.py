"""`schedule`: the times at which tasks run, those of the code and those in Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from redis.exceptions import RedisError
from taskiq import ScheduledTask
from taskiq.cli.scheduler.run import is_cron_task_now
from taskiq.schedule_sources import LabelScheduleSource

from app.cli.configured import failures_in_one_line, with_schedules
from app.client.errors import CliError
from app.messaging.schedules import Schedules
from app.scheduler import broker
from app.settings import Settings


async def show(settings: Settings) -> None:
    async with _opened(settings) as schedules:
        code = LabelScheduleSource(broker)
        await code.startup()
        for source, where in ((code, "app/scheduler.py"), (schedules, "Redis")):
            for task in await source.get_schedules():
                print(f"{task.schedule_id}  {task.task_name}  {_times(task)}  (in {where})")


def _times(task: ScheduledTask) -> str:
    if task.cron is not None:
        return f"at {task.cron} {task.cron_offset or 'UTC'}"
    return f"every {task.interval}" if task.interval else f"at {task.time:%Y-%m-%d %H:%M} UTC"


async def add(settings: Settings, task: str, cron: str, timezone: str | None) -> None:
    async with _opened(settings) as schedules:
        known = broker.get_all_tasks()
        if task not in known:
            raise CliError(f"there is no task {task}; there is {', '.join(sorted(known))}")
        zone = timezone or settings.report_timezone
        try:
            is_cron_task_now(cron, datetime.now(UTC), zone)
        except Exception as error:
            raise CliError(
                f"{cron!r} in {zone!r} is no cron line in a time zone: {error}"
            ) from None
        added = ScheduledTask(
            task_name=task, labels={}, args=[], kwargs={}, cron=cron, cron_offset=zone
        )
        await schedules.add_schedule(added)
        print(f"{added.schedule_id}  {task}  {_times(added)}")


async def remove(settings: Settings, id: str) -> None:
    async with _opened(settings) as schedules:
        if not await schedules.remove(id):
            raise CliError(f"there is no schedule {id} in Redis: see `schedule list`")
        print(f"{id} removed")


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Schedules]:
    """Raises SystemExit with one line for whatever goes wrong."""
    with failures_in_one_line("schedule"):
        schedules = Schedules.open(with_schedules(settings))
        try:
            yield schedules
        except (RedisError, OSError) as error:
            place = settings.schedules_address.url
            raise CliError(
                f"Redis at {place} does not answer: see REDIS_URL, REDIS_HOST, REDIS_PORT ({error})"
            ) from None
        finally:
            await schedules.shutdown()
