"""PostgreSQL: a pool, connections of it, and whose fault a failure is."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

import asyncpg
from sqlalchemy import Executable, Row, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn

from app.database_connections import POOLED, Hosts, create_engine, driver_error, refuses_limits
from app.errors import Unavailable
from app.metrics import DATABASE_CONNECTIONS, DATABASE_POOL
from app.models.base import Base
from app.runtime.cancellation import is_our_end
from app.runtime.deadlines import REQUEST_SECONDS
from app.server_addresses import PostgresAddress

# SQLSTATEs, or their first characters, of failures that are the statement's own fault, or its
# data's: it fails again however often it is tried. The classes of cardinality (21), data (22),
# integrity (23), check option (44), program limits (54) and PL/pgSQL (P0), and of 42 the syntax and
# the parameters. What else 42 has depends on the schema, which others change: that, like all that
# is not named here, is the database's fault.
_OWN_FAULTS = ("21", "22", "23", "42601", "42P02", "42P18", "44", "54", "P0")
_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

# What a write would meet. Read-only: a standby, or a server that is told so, as after a failover.
_STATE = text("""
SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only,
    (SELECT string_agg(concat_ws('.', wanted.table_name, wanted.column_name), ', ')
        FROM unnest(CAST(:tables AS text[]), CAST(:columns AS text[]))
            AS wanted (table_name, column_name)
        LEFT JOIN pg_attribute found ON found.attrelid = to_regclass(wanted.table_name)
            AND found.attname = wanted.column_name AND NOT found.attisdropped
        WHERE found.attname IS NULL) AS missing,
    (SELECT string_agg(privilege || ' ' || table_name, ', ')
        FROM (SELECT DISTINCT unnest(CAST(:tables AS text[]))) AS wanted (table_name)
        CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
        WHERE NOT has_table_privilege(to_regclass(table_name), privilege)) AS refused
""")
_COLUMNS = [column for table in Base.metadata.sorted_tables for column in table.columns]
_TABLES = {
    "tables": [column.table.name for column in _COLUMNS],
    "columns": [column.name for column in _COLUMNS],
}
_IS_OVER = (
    "the change before this statement is committed, so they would not be one transaction: take "
    "ONE_CALL from the route, or `execute_last` from the repository"
)
_Ending = Callable[..., Coroutine[Any, Any, None]]


def _is_own_fault(error: Exception) -> bool:
    """Whether the statement or its data can never succeed."""
    cause = driver_error(error)
    if isinstance(cause, asyncpg.PostgresError):
        return (cause.sqlstate or "").startswith(_OWN_FAULTS)
    return isinstance(cause, ValueError | TypeError)  # asyncpg could not encode an argument


def _is_stale(error: Exception) -> bool:
    """Whether a prepared statement is older than a change of a table. The next is new."""
    return isinstance(driver_error(error), asyncpg.InvalidCachedStatementError)


@contextmanager
def failures_as_unavailable() -> Iterator[None]:
    """Turn every failure of the database into `Unavailable`, but for those that are certainly the
    statement's own fault."""
    try:
        yield
    except (OSError, PoolTimeoutError) as error:  # TimeoutError is an OSError
        raise Unavailable("the database does not answer") from error
    except asyncio.CancelledError as error:
        if is_our_end(error):
            raise
        raise Unavailable("the database connection broke") from error
    except (DBAPIError, PendingRollbackError, *_DRIVER_ERRORS) as error:
        if _is_own_fault(error):
            raise
        raise Unavailable(_in_words(error)) from error


def _in_words(error: Exception) -> str:
    state = getattr(driver_error(error), "sqlstate", None) or ""
    if state == "25006":
        return "the database is read-only"
    if state in ("26000", "42P05"):
        return "a pooler keeps no prepared statements: set DB_POOLER=transaction"
    if state in ("42P01", "42703", "42883", "3F000") or _is_stale(error):
        return "the tables of the database are not those that this version needs"
    return "the database is not available"


def _if_started(method: _Ending) -> _Ending:
    async def end(connection: AsyncConnection, *arguments: Any) -> None:
        if connection.sync_connection is not None:
            await method(connection, *arguments)

    return end


@contextmanager
def _login_failures_as_unavailable() -> Iterator[None]:
    try:
        yield
    except (OSError, PoolTimeoutError):
        raise
    except Exception as error:
        pooled = refuses_limits(error)
        raise Unavailable(POOLED if pooled else "the database refuses the login") from error


class Connection(AsyncConnection):  # pylint: disable=abstract-method
    """Taken from the pool by its first statement, so a request that is rejected before it needs no
    database. In autocommit, each statement takes one and gives it back.

    SQLAlchemy's AsyncSession is lazy too, but what else it does is not needed here, and costs as
    much CPU as a round trip."""

    def __init__(
        self, engine: AsyncEngine, *, is_for_one_call: bool = False, is_autocommit: bool = False
    ) -> None:
        super().__init__(engine)
        self._is_for_one_call = is_for_one_call
        self._is_autocommit = is_autocommit
        self._is_over = False

    async def start(self, is_ctxmanager: bool = False) -> AsyncConnection:
        """Whatever the server says to a login, no statement is at fault. Raises Unavailable."""
        if is_ctxmanager:
            return self
        with _login_failures_as_unavailable():
            return await super().start()

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        """`scalar` and `scalars` call this too."""
        if self._is_over:
            raise RuntimeError(_IS_OVER)
        if self._is_autocommit:
            return await self._execute_alone(*arguments, **options)
        is_first = self.sync_connection is None
        if is_first:
            await self.start()
        try:
            return await super().execute(*arguments, **options)
        except DBAPIError as error:
            if not (is_first and _is_stale(error)):
                raise
        # Nothing else is lost: it is the first of its transaction.
        await self.rollback()
        return await super().execute(*arguments, **options)

    async def execute_last(
        self, statement: Executable, arguments: Mapping[str, Any]
    ) -> Row[Any] | None:
        """Its row, if it has one. For a statement after which its service has nothing left to
        execute.

        In a unit of work for one call, if nothing came before it either, it is a transaction of its
        own: one round trip in place of three."""
        if self._is_for_one_call and self.sync_connection is None and not self._is_over:
            self._is_over = True
            result = await self._execute_alone(statement, arguments)
        else:
            result = await self.execute(statement, arguments)
        row: Row[Any] | None = result.one_or_none()
        return row

    async def _execute_alone(self, *arguments: Any, **options: Any) -> Any:
        """As a transaction of its own."""
        try:
            return await greenlet_spawn(self._in_one_greenlet, *arguments, **options)
        except DBAPIError as error:
            if not _is_stale(error):
                raise
        return await greenlet_spawn(self._in_one_greenlet, *arguments, **options)

    def _in_one_greenlet(self, *arguments: Any, **options: Any) -> Any:
        """From the pool and back to it; asyncpg's rows are all there by then. CPython maps memory
        for the stack of each greenlet and unmaps it at the end: five of them took a tenth of a
        POST."""
        with _login_failures_as_unavailable():
            connection = self.sync_engine.connect()
        with connection:
            driver: Any = connection.connection.dbapi_connection
            # What `execution_options(isolation_level="AUTOCOMMIT")` comes to, at less cost.
            driver.autocommit = True
            try:
                return connection.execute(*arguments, **options)
            finally:
                driver.autocommit = False

    commit = _if_started(AsyncConnection.commit)
    __aexit__ = _if_started(AsyncConnection.__aexit__)


@asynccontextmanager
async def _open(connection: Connection, deadline: float) -> AsyncIterator[Connection]:
    with failures_as_unavailable():
        async with asyncio.timeout(deadline), connection:
            yield connection


class Database:
    """`hosts` are those of the address, and what all pools of a process know of them."""

    def __init__(
        self, address: PostgresAddress, pool_size: int, hosts: Hosts | None = None
    ) -> None:
        self.hosts = hosts or Hosts(address)
        self._engine = create_engine(
            address, hosts=self.hosts, pool_size=pool_size, max_overflow=0, pool_timeout=1
        )
        self._unpooled = create_engine(address, hosts=self.hosts, poolclass=NullPool)
        event.listen(self._engine.sync_engine, "checkout", _refuse_closed)

    def transaction(
        self, deadline: float, *, is_for_one_call: bool = False
    ) -> AbstractAsyncContextManager[Connection]:
        """A transaction that is rolled back at the end, unless its user commits. For one call of a
        service, its only change may commit itself: see `Connection.execute_last`.

        `deadline` is in seconds. Raises `Unavailable`."""
        return _open(Connection(self._engine, is_for_one_call=is_for_one_call), deadline)

    def autocommit(
        self, deadline: float = REQUEST_SECONDS
    ) -> AbstractAsyncContextManager[Connection]:
        """Every statement is a transaction of its own, and sees what is committed by then.

        For reads, and for housekeeping in single statements. `deadline` is in seconds. Raises
        `Unavailable`."""
        return _open(Connection(self._engine, is_autocommit=True), deadline)

    async def ping(self) -> None:
        """Raises `Unavailable`, within a second, unless a write would find a server that takes
        writes, with all tables and columns of the models, and the permission to use them."""
        async with self.autocommit(deadline=1) as connection:
            state = (await connection.execute(_STATE, _TABLES)).one()
        if state.read_only:
            raise Unavailable("the database is read-only")
        if state.missing:
            raise Unavailable(f"the database has no {state.missing}: run alembic upgrade head")
        if state.refused:
            raise Unavailable(f"the role of the database lacks the privilege {state.refused}")

    async def check_login(self) -> None:
        """As the next connection of a pool would: the open ones outlast a refused login. Raises
        `Unavailable`, within a second."""
        with failures_as_unavailable():
            async with asyncio.timeout(1), Connection(self._unpooled) as connection:
                await connection.start()

    async def observe(self) -> None:
        """For the metrics. From time to time, so that taking a connection costs nothing more."""
        pool: Any = self._engine.pool
        DATABASE_CONNECTIONS.set(pool.checkedout())
        DATABASE_POOL.set(pool.size())

    async def close(self) -> None:
        await self._engine.dispose()
        await self._unpooled.dispose()


def _refuse_closed(connection: Any, _record: Any, _proxy: Any) -> None:
    """Costs nothing, unlike a ping at each checkout: asyncio notices when a server closes the
    socket."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("closed by the server")
