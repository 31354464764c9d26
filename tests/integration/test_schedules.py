"""Schedules in Redis: what cannot be read stops no other, and is named once."""

import pickle

from redis.asyncio import Redis
from structlog.testing import capture_logs
from taskiq import ScheduledTask
from taskiq.serializers import JSONSerializer

from app.embedded import Valkey
from app.messaging.schedules import Schedules


def _task(name: str, cron: str = "* * * * *", offset: str | None = None) -> ScheduledTask:
    return ScheduledTask(
        task_name="nightly_reports",
        labels={},
        args=[],
        kwargs={},
        schedule_id=name,
        cron=cron,
        cron_offset=offset,
    )


async def test_a_schedule_that_cannot_be_read_stops_no_other_and_is_named_once(
    valkey: Valkey,
) -> None:
    schedules = Schedules(f"redis://{valkey.host}:{valkey.port}/3", JSONSerializer())
    await schedules.add_schedule(_task("good"))
    await schedules.add_schedule(_task("odd cron", cron="never"))
    await schedules.add_schedule(_task("odd zone", offset="../etc/passwd"))
    async with Redis(port=valkey.port, db=3) as redis:
        pickled = pickle.dumps(_task("pickled").model_dump(mode="json"))
        for name, value in {"pickled": pickled, "shape": b'{"cron": 1}', "text": b"x"}.items():
            await redis.set(f"schedule:data:{name}", value)
            await redis.rpush("schedule:cron", name)
        await redis.rpush("schedule:cron", b"\xff")
        await redis.set("schedule:interval", "not a list")
    with capture_logs() as lines:
        for _ in range(3):
            assert [task.schedule_id for task in await schedules.get_schedules()] == ["good"]
    await schedules.shutdown()
    assert schedules.failure is None
    told = {line["key"].removeprefix("schedule:") for line in lines}
    names = ("pickled", "shape", "text", "odd cron", "odd zone")
    assert told == {"interval", *(f"data:{name}" for name in names)}
    assert len(lines) == len(told)
