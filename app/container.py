"""What lives as long as the process, and the one place that commits."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import date
from functools import cached_property
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.cache.invalidation import (
    POLL_SECONDS,
    Freshness,
    InvalidationCleaner,
    InvalidationRelay,
    Pending,
    acknowledge_late,
    now,
)
from app.cache.reads import CachedEntity, ReadThroughCache
from app.cache.redis import CacheRedis
from app.cache.store import Cache
from app.database import Database
from app.messaging.opening import open_broker
from app.messaging.relay import Relay
from app.repositories.addresses import AddressRepository
from app.repositories.constraints import refusal_of
from app.repositories.idempotency import IdempotencyRepository
from app.repositories.invalidations import InvalidationRepository
from app.repositories.messages import MessageRepository
from app.repositories.orders import OrderRepository
from app.repositories.outbox import OutboxRepository
from app.repositories.products import ProductRepository
from app.repositories.reports import ReportRepository
from app.repositories.users import UserRepository
from app.runtime.failpoints import Failpoints
from app.runtime.loops import Step, running
from app.schemas.products import ProductRead
from app.schemas.users import UserRead
from app.services.addresses import AddressService
from app.services.after_commit import Changes
from app.services.health import HealthService
from app.services.idempotency import IdempotencyService
from app.services.messages import MessageService
from app.services.orders import OrderService
from app.services.products import ProductService
from app.services.reads import ReadService
from app.services.reports import Calendar, ReportService
from app.services.users import UserService
from app.settings import Settings

REQUEST_SECONDS = 2.5
_USER_TTL = 3600
_PRODUCT_TTL = 600


class UnitOfWork:
    """One request, message or run: its connection, and the services that work in it."""

    def __init__(self, container: "Container", connection: AsyncConnection) -> None:
        self._container = container
        self._connection = connection
        self.changes = Changes()

    @cached_property
    def users(self) -> UserService:
        cached = self._container.cached_users
        return UserService(UserRepository(self._connection), cached, self.changes)

    @cached_property
    def addresses(self) -> AddressService:
        return AddressService(AddressRepository(self._connection), UserRepository(self._connection))

    @cached_property
    def products(self) -> ProductService:
        cached = self._container.cached_products
        return ProductService(ProductRepository(self._connection), cached, self.changes)

    @cached_property
    def orders(self) -> OrderService:
        cached = self._container.cached_products
        return OrderService(OrderRepository(self._connection), cached, self.changes)

    @cached_property
    def reports(self) -> ReportService:
        container = self._container
        return ReportService(
            ReportRepository(self._connection),
            container.calendar,
            self.changes,
            container.read_report_page,
        )

    @cached_property
    def idempotency(self) -> IdempotencyService:
        return IdempotencyService(IdempotencyRepository(self._connection), self.changes)

    @cached_property
    def messages(self) -> MessageService:
        return MessageService(MessageRepository(self._connection), self.changes)


class Container:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.calendar = Calendar(settings.report_timezone)
        self.database = Database(settings.postgresql_url, pool_size=10)
        self.broker = open_broker(settings)
        self.failpoints = Failpoints(settings.fail_at)
        self.relay = Relay(self._outbox, self.broker, self.failpoints)
        # Its own connections: a full pool must not stop the polls, and with them the cache.
        self._monitoring = Database(settings.postgresql_url, pool_size=3)
        freshness = Freshness()
        self.cache = Cache(CacheRedis(settings.cache_url), freshness)
        self.cached_users = ReadThroughCache(
            self.cache, CachedEntity("user", _USER_TTL, self._load_users)
        )
        products = CachedEntity("product", _PRODUCT_TTL, self._load_products)
        self.cached_products = ReadThroughCache(self.cache, products)
        self.user_reads = ReadService("user", self.cached_users)
        self.product_reads = ReadService("product", self.cached_products)
        self._forgetter = InvalidationCleaner(self._forget)
        self._invalidations = InvalidationRelay(
            freshness, self._pending, self.cache.delete, self._forget, self._compact
        )
        self.health = HealthService(self._monitoring.ping, self.cache.ping, self.broker.ping)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Container"]:
        """Nothing connects before it is used: the surroundings may come up later than we do."""
        container = cls(settings)
        try:
            async with running((container._forgetter.step, 0.01)):
                yield container
        finally:
            await container.broker.close()
            await container.cache.close()
            await container._monitoring.close()
            await container.database.close()

    @property
    def loops_of_reader(self) -> list[tuple[Step, float]]:
        """For a process that answers reads from the cache."""
        return [(self._invalidations.step, POLL_SECONDS)]

    @property
    def loops_of_publisher(self) -> list[tuple[Step, float]]:
        return [(self.relay.step, 1), (self._forget_old_keys, 3600)]

    @asynccontextmanager
    async def unit_of_work(
        self,
        deadline: float = REQUEST_SECONDS,
        limiter: AbstractAsyncContextManager[Any] = nullcontext(),
    ) -> AsyncIterator[UnitOfWork]:
        """A transaction that commits at the end of the context, and what must follow the commit.

        `limiter` is held during the transaction alone: what follows may wait long for others."""
        async with limiter, self._transaction(deadline) as connection:
            uow = UnitOfWork(self, connection)
            yield uow
            keys = sorted(
                uow.changes.deleted
                | {self.cached_products.key(id) for id in uow.changes.refreshed_products}
            )
            ids = await InvalidationRepository(connection).add(keys) if keys else []
            self.failpoints.reach("work.before_commit")
        self.failpoints.reach("work.after_commit")
        await self._tell_others(uow.changes, ids, committed_at=now())

    @asynccontextmanager
    async def reading(self, deadline: float = REQUEST_SECONDS) -> AsyncIterator[UnitOfWork]:
        """Services to read with: no transaction, nothing to commit."""
        async with self.database.reading(deadline) as connection:
            yield UnitOfWork(self, connection)

    @asynccontextmanager
    async def _transaction(
        self, deadline: float, database: Database | None = None
    ) -> AsyncIterator[AsyncConnection]:
        async with (database or self.database).transaction(deadline) as connection:
            try:
                yield connection
                await connection.commit()
            except IntegrityError as error:
                if refusal := refusal_of(error):
                    raise refusal from error
                raise

    async def _tell_others(self, changes: Changes, ids: Sequence[int], committed_at: float) -> None:
        confirmed = not changes.repeated
        if changes.deleted:
            confirmed &= await self.cache.delete(sorted(changes.deleted))
        for product_id in changes.refreshed_products:
            confirmed &= await self.cached_products.refresh(product_id)
        if not confirmed:
            await acknowledge_late(committed_at)
        elif ids:
            self._forgetter.add(ids)

    @asynccontextmanager
    async def _outbox(self) -> AsyncIterator[OutboxRepository]:
        async with self._transaction(deadline=60) as connection:
            yield OutboxRepository(connection)

    async def _forget_old_keys(self) -> None:
        async with self._transaction(deadline=60) as connection:
            await IdempotencyRepository(connection).forget_old()

    async def _load_users(self, ids: list[int]) -> dict[int, bytes]:
        async with self.database.reading(REQUEST_SECONDS) as connection:
            rows = await UserRepository(connection).find(ids)
        return {row.id: UserRead.model_validate(row).model_dump_json().encode() for row in rows}

    async def _load_products(self, ids: list[int]) -> dict[int, bytes]:
        async with self.database.reading(REQUEST_SECONDS) as connection:
            rows = await ProductRepository(connection).find(ids)
        return {row.id: ProductRead.model_validate(row).model_dump_json().encode() for row in rows}

    async def read_report_page(self, day: date, after: int) -> Row[Any]:
        """On a connection of its own: no slow client holds one."""
        async with self.database.reading(REQUEST_SECONDS) as connection:
            return await ReportRepository(connection).page(day, after)

    async def _pending(self, limit: int) -> Sequence[Pending]:
        async with self._monitoring.reading(REQUEST_SECONDS) as connection:
            return [
                Pending(*row) for row in await InvalidationRepository(connection).pending(limit)
            ]

    async def _forget(self, ids: Sequence[int]) -> None:
        async with self._transaction(REQUEST_SECONDS, self._monitoring) as connection:
            await InvalidationRepository(connection).forget(ids)

    async def _compact(self) -> None:
        async with self._transaction(REQUEST_SECONDS, self._monitoring) as connection:
            await InvalidationRepository(connection).compact()
