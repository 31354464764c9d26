"""What the status page shows: one snapshot, however many look at it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

import structlog

from app.database import Database
from app.errors import Unavailable
from app.metrics import Found, cache_reads
from app.repositories.messages import MessageRepository
from app.repositories.overview import MOST_COUNTED, OverviewRepository
from app.repositories.reports import ReportRepository
from app.runtime.loops import end
from app.schemas.messages import MessageRead
from app.schemas.orders import OrderStatus
from app.schemas.overview import (
    CacheOverview,
    LastOrder,
    OrdersToday,
    OutboxOverview,
    Overview,
    PartHealth,
    ProductLeft,
    QueueOverview,
    QueuesOverview,
    ShopOverview,
    Stock,
)
from app.schemas.reports import ReportSummary
from app.services.after_commit import NothingFollows
from app.services.calendar import Calendar
from app.services.diagnoses import diagnosed, not_well
from app.services.health import HealthService
from app.services.monitor import Monitor
from app.services.reports import ReportService

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A snapshot is not renewed before it is that old.
_FRESH_SECONDS = 3.0
# A look that takes longer goes on, and what it finds is in a later snapshot.
_PATIENCE_SECONDS = 1.5
_QUERY_SECONDS = 2.0
# As in the metrics: better no diagnosis than an old one.
_JUDGED_SECONDS = 30
_FEW_PIECES = 5
_DAYS = 14
_MESSAGES = 10


class ShopFigures(NamedTuple):
    orders: OrdersToday
    stock: Stock
    reports: ReportSummary
    messages: list[MessageRead]


class _Look(Generic[T]):
    """A question to one server. It is not asked again while it waits for its answer. The last
    answer is kept, and `is_current` says whether it is that of the last question."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self.task: asyncio.Task[None] | None = None
        self.found: T | None = None
        self.at = datetime.min.replace(tzinfo=UTC)
        self._failed = False

    def begin(self) -> "asyncio.Task[None]":
        if self.task is None or self.task.done():
            # In an empty context: the id of one request must not be logged for all.
            self.task = asyncio.create_task(self._run(), context=Context())
        return self.task

    async def _run(self) -> None:
        self._failed = True
        try:
            self.found = await self._ask()
        except (Unavailable, TimeoutError):
            return
        except Exception:
            log.exception("a look for the status page failed")
            return
        self.at = datetime.now(UTC)
        self._failed = False

    @property
    def seen(self) -> dict[str, Any]:
        return {"seen_at": self.at, "current": not self._failed}


class OverviewService:
    """Looks while somebody asks, at most once in three seconds. All who ask meanwhile share it. A
    server that does not answer costs its own part of the snapshot, and 1.5 s."""

    def __init__(
        self,
        monitoring: Database,
        monitor: Monitor,
        calendar: Calendar,
        health: HealthService,
        broker: str,
        *queues: str,
    ) -> None:
        """`broker` is its name, for people. `queues` are further ones to look at."""
        self._database = monitoring
        self._calendar = calendar
        self._health = health
        self._broker = broker
        self._parts = _Look(health.readiness)
        self._shop = _Look(self._look_at_shop)
        self._figures = [_Look(look) for look in monitor.looks(*queues)]
        self._known: Overview | None = None
        self._known_until = 0.0
        self._building: asyncio.Task[Overview] | None = None

    async def read(self) -> Overview:
        """Returns within two seconds, whatever the servers do."""
        if self._known and time.monotonic() < self._known_until:
            return self._known
        if self._building is None or self._building.done():
            self._building = asyncio.create_task(self._build(), context=Context())
        return await asyncio.shield(self._building)

    async def close(self) -> None:
        tasks = [self._building, *(look.task for look in self._looks)]
        await end([task for task in tasks if task])

    @property
    def _looks(self) -> list[_Look[Any]]:
        return [self._parts, self._shop, *self._figures]

    async def _build(self) -> Overview:
        await asyncio.wait([look.begin() for look in self._looks], timeout=_PATIENCE_SECONDS)
        self._known = self._snapshot(datetime.now(UTC))
        self._known_until = time.monotonic() + _FRESH_SECONDS
        return self._known

    def _snapshot(self, at: datetime) -> Overview:
        parts = list(self._told_parts())
        judged = at - timedelta(seconds=_JUDGED_SECONDS)
        wrong = [not_well(part.name, part.reason) for part in parts if part.status != "ok"]
        shop, reads = self._shop, cache_reads()
        return Overview(
            at=at,
            problems=[*wrong, *diagnosed(self._found(since=judged))],
            broker=self._broker,
            parts=parts,
            shop=ShopOverview(**shop.seen, **shop.found._asdict()) if shop.found else None,
            queues=self._told_queues(),
            outbox=self._told_outbox(),
            cache=CacheOverview(reads=int(sum(reads.values())), hits=int(reads.get("hit", 0))),
        )

    def _told_parts(self) -> Iterator[PartHealth]:
        readiness = self._parts.found
        for name, status in (readiness.parts if readiness else {}).items():
            yield PartHealth(name=name, status=status, reason=self._health.reasons.get(name))

    def _found(self, since: datetime) -> Found:
        figures: dict[str, Mapping[str, float]] = {}
        for look in self._figures:
            if look.found and look.at > since:
                figures.update(look.found)
        return figures

    def _look_for(self, figure: str) -> _Look[Found] | None:
        return next((look for look in self._figures if look.found and figure in look.found), None)

    def _told_queues(self) -> QueuesOverview | None:
        look = self._look_for("queue_messages")
        if look is None or look.found is None:
            return None
        found = look.found
        return QueuesOverview(
            **look.seen, queues=[_queue(name, found) for name in found["queue_messages"]]
        )

    def _told_outbox(self) -> OutboxOverview | None:
        look = self._look_for("outbox_messages")
        if look is None or look.found is None:
            return None
        return OutboxOverview(
            **look.seen,
            messages=int(look.found["outbox_messages"][""]),
            oldest_seconds=_to_the_minute(look.found["outbox_oldest_seconds"][""]),
        )

    async def _look_at_shop(self) -> ShopFigures:
        today = self._calendar.today()
        async with self._database.autocommit(_QUERY_SECONDS) as connection:
            repository = OverviewRepository(connection)
            reports = ReportService(
                ReportRepository(connection), self._calendar, NothingFollows(), self._database
            )
            messages = await MessageRepository(connection).last_not_applied(_MESSAGES)
            return ShopFigures(
                await self._orders(repository),
                await _stock(repository),
                await reports.summary(today - timedelta(days=_DAYS - 1), today),
                [MessageRead.of(row) for row in messages],
            )

    async def _orders(self, repository: OverviewRepository) -> OrdersToday:
        day = self._calendar.today()
        begins = self._calendar.begins(day)
        found = await repository.today(begins, self._calendar.ends(day))
        minutes = await repository.minutes()
        return OrdersToday(
            day=day,
            begins=begins,
            by_status={status: found.get(status, 0) for status in OrderStatus},
            total=sum(found.values()),
            complete=sum(found.values()) < MOST_COUNTED,
            dated_back=await repository.dated_back(begins),
            last_hour=list(minutes.counts),
            minute=minutes.minute,
            last=[LastOrder.of(row) for row in await repository.last_orders()],
        )


async def _stock(repository: OverviewRepository) -> Stock:
    rows = await repository.low_stock(_FEW_PIECES)
    none = rows[0].none if rows else 0
    return Stock(
        out_of_stock=none,
        nearly=rows[0].low - none if rows else 0,
        few=_FEW_PIECES,
        products=[ProductLeft.of(row) for row in rows],
    )


def _queue(name: str, found: Found) -> QueueOverview:
    dead = found["dead_letters"].get(name)
    oldest = found["queue_oldest_seconds"].get(name)
    consumers = found["queue_consumers"].get(name)
    return QueueOverview(
        queue=name,
        messages=int(found["queue_messages"][name]),
        oldest_seconds=None if oldest is None else _to_the_minute(oldest),
        consumers=None if consumers is None else int(consumers),
        dead_letters=None if dead is None else int(dead),
    )


def _to_the_minute(seconds: float) -> int:
    """Otherwise no two snapshots would be the same while a message waits."""
    return int(seconds // 60) * 60
