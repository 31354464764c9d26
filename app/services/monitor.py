"""What only the servers know, found out from time to time and kept for the metrics."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from app.database import Database
from app.errors import Unavailable
from app.messaging.broker import Broker
from app.metrics import FIGURES, Found
from app.queues import CONSUMED, DEAD_TASKS, TASKS
from app.repositories.outbox import OutboxRepository
from app.repositories.reports import ReportRepository
from app.services.calendar import Calendar
from app.services.health import HealthService

# The queue that each queue of dead letters belongs to.
_DEAD: dict[str, str] = {**{queue.dead: queue.value for queue in CONSUMED}, DEAD_TASKS: TASKS}
_LOOK_SECONDS = 2


class Monitor:
    """One process looks, however often the metrics are asked for. Each look is at few rows.

    `monitoring` has connections of its own: a full pool must not blind it."""

    def __init__(
        self,
        monitoring: Database,
        broker: Broker,
        calendar: Calendar,
        health: HealthService,
        directory: Path,
    ) -> None:
        self._database = monitoring
        self._broker = broker
        self._calendar = calendar
        self._health = health
        self._directory = directory

    async def tick(self, *further: str) -> None:
        FIGURES.show(await self.look(*further))

    async def look(self, *further: str) -> Found:
        """At the service's queues, and `further` ones. A server that does not answer costs its own
        figures, and no others."""
        found: dict[str, Mapping[str, float]] = {}
        looks = (self._parts, *self.looks(*further))
        for part in await asyncio.gather(*(_unless_unavailable(look()) for look in looks)):
            found.update(part)
        return found

    def looks(self, *further: str) -> Sequence[Callable[[], Awaitable[Found]]]:
        """One for each server and the disk. They raise Unavailable."""
        return (partial(self._queues, further), self._outbox_and_reports, self._disk)

    async def _parts(self) -> Found:
        readiness = await self._health.readiness()
        return {"part_up": {part: status == "ok" for part, status in readiness.parts.items()}}

    async def _queues(self, further: Iterable[str]) -> Found:
        states = await self._broker.states(*further)
        alive = {name: state for name, state in states.items() if name not in _DEAD}
        consumers = {n: s.consumers for n, s in alive.items() if s.consumers is not None}
        oldest = {n: s.oldest for n, s in alive.items() if s.oldest is not None}
        return {
            "queue_messages": {name: state.messages for name, state in alive.items()},
            "queue_consumers": consumers,
            "queue_oldest_seconds": oldest,
            "dead_letters": {_DEAD[n]: states[n].messages for n in states.keys() - alive.keys()},
        }

    async def _outbox_and_reports(self) -> Found:
        """Days with late orders have been built, and are built again: they are none of these."""
        today = self._calendar.today()
        async with self._database.autocommit(_LOOK_SECONDS) as connection:
            waiting = await OutboxRepository(connection).waiting()
            reports = ReportRepository(connection)
            first = self._calendar.day_of(await reports.first_start())
            closed = await reports.count_closed(first, today)
        return {
            "outbox_messages": {"": waiting.messages},
            "outbox_oldest_seconds": {"": waiting.seconds},
            "report_days_not_built": {"": max(0, (today - first).days - closed)},
        }

    async def _disk(self) -> Found:
        directory = next(
            path for path in (self._directory, *self._directory.parents) if path.exists()
        )
        disk = await asyncio.to_thread(shutil.disk_usage, directory)
        return {"disk_free_bytes": {"": disk.free}, "disk_size_bytes": {"": disk.total}}


async def _unless_unavailable(look: Awaitable[Found]) -> Found:
    try:
        return await look
    except Unavailable:
        return {}
