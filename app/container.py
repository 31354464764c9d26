"""What lives as long as the process, wired together. Nothing else happens here."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from app.cache.caches import Caches
from app.database import Database
from app.messaging.opening import open_broker
from app.messaging.relay import Relay
from app.queues import DEAD_TASKS, TASKS
from app.runtime.failpoints import Failpoints
from app.runtime.loops import Loop, running
from app.services.cached_entities import CACHED_ENTITIES
from app.services.calendar import Calendar
from app.services.dead_letters import DeadLetterService
from app.services.health import HealthService
from app.services.monitor import Monitor
from app.services.overview import OverviewService
from app.services.retention import Kept, Retention
from app.services.totals import TotalsKeeper
from app.settings import Settings
from app.unit_of_work import UnitsOfWork

# More connections write no faster: orders of the same products wait for each other's locks.
POOL_SIZE = 10
# Their names for people, and the queues of each that are not for messages.
_BROKERS = {"rabbitmq": ("RabbitMQ", TASKS, DEAD_TASKS), "streams": ("Valkey streams",)}


class Container:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failpoints = Failpoints(settings.fail_at)
        self.calendar = Calendar(settings.report_timezone)
        self.database = Database(settings.postgresql_address, pool_size=POOL_SIZE)
        self._monitoring = Database(settings.postgresql_address, 3, self.database.hosts)
        self.broker = open_broker(settings)
        self.caches = Caches(
            settings.cache_address, CACHED_ENTITIES, self.database, self._monitoring
        )
        units = UnitsOfWork(self.database, self.caches, self.calendar, self.failpoints)
        self.unit_of_work = units.begin
        self.reading = units.reading
        self.long_reading = units.long_reading
        self.relay = Relay(units.outbox, self.broker, self.failpoints)
        self.retention = Retention(self.database, self.broker, _kept(settings))
        self.dead_letters = DeadLetterService(self.broker, self._monitoring)
        self.totals = TotalsKeeper(units.row_counts)
        self.health = HealthService(
            [
                ("postgresql", "down", self._monitoring.ping),
                ("postgresql", "degraded", self._monitoring.check_login),
                ("redis", "degraded", self.caches.ping),
                ("rabbitmq", "degraded", self.broker.ping),
            ],
            refused_queues=lambda: self.broker.refused,
        )
        self._monitor = Monitor(
            self._monitoring, self.broker, self.calendar, self.health, settings.data_dir.absolute()
        )
        self.overview = OverviewService(
            self._monitoring,
            self._monitor,
            self.calendar,
            self.health,
            *_BROKERS[settings.queue_transport],
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Container"]:
        """Nothing connects before it is used: what we depend on may start later than we do."""
        container = cls(settings)
        async with AsyncExitStack() as closing:  # the last one first, and all whatever one raises
            closing.push_async_callback(container.database.close)
            closing.push_async_callback(container._monitoring.close)
            closing.push_async_callback(container.caches.close)
            closing.push_async_callback(container.broker.close)
            closing.push_async_callback(container.overview.close)
            async with running(*container.caches.writing_loops, (container.database.observe, 1)):
                yield container

    @property
    def reading_loops(self) -> list[Loop]:
        """For a process that answers reads from the cache."""
        return [*self.caches.reading_loops, *self._watching_loops]

    @property
    def publishing_loops(self) -> list[Loop]:
        """For a process that publishes messages; it also keeps the house."""
        return [
            (self.relay.tick, 1),
            (self.totals.tick, 60),
            (self.retention.tick, 3600),
            *self._watching_loops,
        ]

    def monitoring_loops(self, *further: str) -> list[Loop]:
        """For the one process that looks at the servers for the metrics, and at these further
        queues."""

        async def look() -> None:
            await self._monitor.tick(*further)

        return [(look, 5)]

    @property
    def _watching_loops(self) -> list[Loop]:
        hosts = self.database.hosts
        return [(hosts.look, 1)] if hosts.are_several else []


def _kept(settings: Settings) -> Kept:
    return Kept(
        messages=settings.messages_kept_days,
        dead_letters=settings.dead_letters_kept_days,
        report_messages=settings.report_messages_kept_days,
        stock_movements=settings.stock_movements_kept_days,
    )
