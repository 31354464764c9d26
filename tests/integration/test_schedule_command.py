"""`schedule` lists, adds and removes what the scheduler will read."""

import pytest
from redis.asyncio import Redis

from app.cli import schedule
from app.messaging.schedules import Schedules
from app.settings import Settings
from harness.service import Service


async def test_a_schedule_is_added_listed_and_removed(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await schedule.add(settings, "nightly_reports", "*/5 * * * *", "Europe/Berlin")
    id, task, *_ = capsys.readouterr().out.split()
    assert task == "nightly_reports"
    source = Schedules.open(settings)
    [read] = await source.get_schedules()
    await source.shutdown()
    assert (read.schedule_id, read.cron, read.cron_offset) == (id, "*/5 * * * *", "Europe/Berlin")
    await schedule.show(settings)
    assert capsys.readouterr().out.splitlines() == [
        "nightly_reports  nightly_reports  at 0 0 * * * UTC  (in app/scheduler.py)",
        f"{id}  nightly_reports  at */5 * * * * Europe/Berlin  (in Redis)",
    ]
    await schedule.remove(settings, id)
    capsys.readouterr()
    await schedule.show(settings)
    assert id not in capsys.readouterr().out
    with pytest.raises(SystemExit, match="there is no schedule"):
        await schedule.remove(settings, id)


async def test_the_commands_do_the_same(processes: Service) -> None:
    command = ("-m", "app", "schedule")
    added = await processes.script(*command, "add", "nightly_reports", "0 3 * * *")
    id = added.split()[0]
    assert f"{id}  nightly_reports  at 0 3 * * *" in await processes.script(*command, "list")
    await processes.script(*command, "remove", id)
    assert id not in await processes.script(*command, "list")


@pytest.mark.parametrize(
    ("task", "cron", "zone", "told"),
    [
        ("nightly", "* * * * *", None, "there is nightly_reports"),
        ("nightly_reports", "never", None, "no cron line"),
        ("nightly_reports", "* * * * *", "Mars/Here", "no cron line"),
    ],
)
async def test_what_the_scheduler_could_not_read_is_refused(
    settings: Settings, task: str, cron: str, zone: str | None, told: str
) -> None:
    with pytest.raises(SystemExit, match=told):
        await schedule.add(settings, task, cron, zone)


async def test_one_that_cannot_be_read_can_be_removed(settings: Settings) -> None:
    async with Redis.from_url(
        settings.schedules_address.url, password=settings.cache_address.password() or None
    ) as redis:
        await redis.set("schedule:data:odd", b"x")
        await redis.rpush("schedule:cron", "odd")
        await schedule.remove(settings, "odd")
        assert not await redis.exists("schedule:data:odd", "schedule:cron")


async def test_the_one_process_service_has_no_schedules_in_redis(settings: Settings) -> None:
    alone = settings.model_copy(update={"database_url": None})
    with pytest.raises(SystemExit, match="the one-process service follows app/scheduler.py"):
        await schedule.show(alone)
