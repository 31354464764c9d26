"""One transaction: the services in it, the only commit of the project, and what follows it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy.exc import IntegrityError

from app.cache.caches import Caches
from app.database import Connection, Database
from app.repositories.addresses import AddressRepository
from app.repositories.constraints import refusal_of
from app.repositories.idempotency import IdempotencyRepository
from app.repositories.messages import MessageRepository
from app.repositories.order_lives import OrderLifeRepository
from app.repositories.orders import OrderRepository
from app.repositories.outbox import OutboxRepository
from app.repositories.products import ProductRepository
from app.repositories.reports import ReportRepository
from app.repositories.row_counts import RowCountRepository
from app.repositories.users import UserRepository
from app.runtime.clock import now
from app.runtime.deadlines import REQUEST_SECONDS
from app.runtime.failpoints import Failpoints
from app.services.addresses import AddressService
from app.services.after_commit import AfterCommit, NothingFollows
from app.services.calendar import Calendar
from app.services.idempotency import IdempotencyService
from app.services.messages import MessageService
from app.services.order_lives import OrderLifeService
from app.services.orders import OrderService
from app.services.products import PRODUCT, ProductService
from app.services.reports import ReportService
from app.services.users import USER, UserService

_RELAY_SECONDS = 60
_RECOUNT_SECONDS = 300


class UnitOfWork:
    """The services of one request, message or run, on its connection. Each is made when it is first
    asked for."""

    def __init__(
        self, shared: "UnitsOfWork", connection: Connection, after_commit: AfterCommit
    ) -> None:
        self._shared = shared
        self._connection = connection
        self.after_commit = after_commit

    @cached_property
    def users(self) -> UserService:
        cache = self._shared.caches[USER]
        return UserService(UserRepository(self._connection), cache, self.after_commit)

    @cached_property
    def addresses(self) -> AddressService:
        return AddressService(AddressRepository(self._connection), UserRepository(self._connection))

    @cached_property
    def products(self) -> ProductService:
        cache = self._shared.caches[PRODUCT]
        return ProductService(ProductRepository(self._connection), cache, self.after_commit)

    @cached_property
    def orders(self) -> OrderService:
        return OrderService(OrderRepository(self._connection), self.after_commit)

    @cached_property
    def order_lives(self) -> OrderLifeService:
        lives, reports = OrderLifeRepository(self._connection), ReportRepository(self._connection)
        return OrderLifeService(self.orders, lives, reports)

    @cached_property
    def reports(self) -> ReportService:
        calendar, database = self._shared.calendar, self._shared.database
        reports = ReportRepository(self._connection)
        return ReportService(reports, calendar, self.after_commit, database)

    @cached_property
    def idempotency(self) -> IdempotencyService:
        return IdempotencyService(IdempotencyRepository(self._connection), self.after_commit)

    @cached_property
    def messages(self) -> MessageService:
        return MessageService(MessageRepository(self._connection), self.after_commit)


@dataclass(frozen=True)
class UnitsOfWork:
    """Opens units of work. All of them share what is named here."""

    database: Database
    caches: Caches
    calendar: Calendar
    failpoints: Failpoints

    @asynccontextmanager
    async def begin(
        self,
        deadline: float = REQUEST_SECONDS,
        limiter: AbstractAsyncContextManager[Any] = nullcontext(),
        *,
        is_for_one_call: bool = False,
    ) -> AsyncIterator[UnitOfWork]:
        """A transaction that commits at the end of the context, unless that ends with an error.
        Returns when no cache can give out an older value.

        `is_for_one_call` promises that a service is called once: a call that needs one statement
        then commits with it. `deadline` is in seconds. `limiter` is held during the transaction
        alone: the invalidation of caches after it may take long. Raises Unavailable, and at the
        commit any Refusal that a constraint of the database stands for."""
        async with limiter, self._transaction(deadline, is_for_one_call) as connection:
            uow = UnitOfWork(self, connection, AfterCommit())
            yield uow
            after = uow.after_commit
            invalidation = await self.caches.announce(connection, after.facts, after.announced)
            self.failpoints.reach("work.before_commit")
        self.failpoints.reach("work.after_commit")
        await self.caches.invalidate(invalidation, now(), after.repeats_recent)

    @asynccontextmanager
    async def reading(
        self,
        deadline: float = REQUEST_SECONDS,
        limiter: AbstractAsyncContextManager[Any] = nullcontext(),
    ) -> AsyncIterator[UnitOfWork]:
        """Services to read with: no transaction, and nothing to commit. A service that changes
        something here raises RuntimeError. `limiter` as in `begin`."""
        async with limiter, self.database.autocommit(deadline) as connection:
            yield UnitOfWork(self, connection, NothingFollows())

    @asynccontextmanager
    async def long_reading(self, deadline: float) -> AsyncIterator[UnitOfWork]:
        """As `reading`, for statements that take long: only in a transaction can they raise their
        limit."""
        async with self._transaction(deadline) as connection:
            yield UnitOfWork(self, connection, NothingFollows())

    @asynccontextmanager
    async def outbox(self) -> AsyncIterator[OutboxRepository]:
        """For the relay, which removes what it has sent."""
        async with self._transaction(_RELAY_SECONDS) as connection:
            yield OutboxRepository(connection)

    @asynccontextmanager
    async def row_counts(self) -> AsyncIterator[RowCountRepository]:
        """For the keeper of the totals. Counting a very large table takes minutes."""
        async with self._transaction(_RECOUNT_SECONDS) as connection:
            yield RowCountRepository(connection)

    @asynccontextmanager
    async def _transaction(
        self, deadline: float, is_for_one_call: bool = False
    ) -> AsyncIterator[Connection]:
        opening = self.database.transaction(deadline, is_for_one_call=is_for_one_call)
        async with opening as connection:
            try:
                yield connection
                await connection.commit()
            except IntegrityError as error:
                if refusal := refusal_of(error):
                    raise refusal from error
                raise
