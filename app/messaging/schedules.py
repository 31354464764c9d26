"""TaskIQ's schedules in Redis: those that somebody adds while everything runs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from taskiq import ScheduledTask
from taskiq.abc.serializer import TaskiqSerializer
from taskiq.cli.scheduler.run import is_cron_task_now
from taskiq.serializers import JSONSerializer
from taskiq_redis import ListRedisScheduleSource

from app.redis_connections import connection_options
from app.settings import Settings

log = structlog.get_logger(__name__)


# Of one exchange with Redis, in seconds.
REDIS_LIMITS: dict[str, Any] = {"socket_timeout": 2, "socket_connect_timeout": 2}


class Schedules(ListRedisScheduleSource):
    """Those that were added to Redis. What cannot be read stops no other, and is named once."""

    @classmethod
    def open(cls, settings: Settings) -> "Schedules":
        """Connects at its first use. The caller shuts it down."""
        return cls(
            **connection_options(settings.schedules_address),
            prefix=f"{settings.redis_prefix}schedule",
            serializer=JSONSerializer(),
            **REDIS_LIMITS,
        )

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

    async def remove(self, id: str) -> bool:
        """Also one that cannot be read. False if there is none."""
        async with Redis(connection_pool=self._connection_pool) as redis:
            for key in (self._get_cron_key(), self._get_interval_key()):
                await redis.lrem(key, 0, id)
            return bool(await redis.delete(self._get_data_key(id)))

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
