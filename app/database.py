"""PostgreSQL: a pool, two kinds of connection, and the errors that mean "try again later"."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
from sqlalchemy import URL, event, make_url, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.errors import Unavailable
from app.runtime.cancellation import is_our_end
from app.runtime.deadlines import REQUEST_SECONDS

# SQLSTATEs, or their first characters, of failures that are not the statement's fault: connection
# lost (08, 57P0x), no resources (53), serialisation failure and deadlock (40001, 40P01), lock not
# granted in time (55P03).
_TRANSIENT = ("08", "53", "57P01", "57P02", "57P03", "57P04", "57P05", "40001", "40P01", "55P03")

# The server's own limits, in milliseconds. The client's limit is a deadline.
_SERVER_SETTINGS = {
    "application_name": "order-service",
    "timezone": "UTC",
    "statement_timeout": "10000",
    "lock_timeout": "2000",
    "idle_in_transaction_session_timeout": "20000",
}
_CLOSE_SECONDS = 0.2
_Ending = Callable[[AsyncConnection], Coroutine[Any, Any, None]]


def _is_transient(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None) or ""
    return error.connection_invalidated or state.startswith(_TRANSIENT)


@contextmanager
def unavailable_if_transient() -> Iterator[None]:
    """Turn failures that may pass into `Unavailable`; leave all others as they are."""
    try:
        yield
    except (OSError, PoolTimeoutError) as error:  # TimeoutError is an OSError
        raise Unavailable("the database does not answer") from error
    except asyncio.CancelledError as error:
        if is_our_end(error):
            raise
        raise Unavailable("the database connection broke") from error
    except DBAPIError as error:
        if not _is_transient(error):
            raise
        raise Unavailable("the database is not available") from error


class _Connection(asyncpg.Connection):
    async def close(self, *, timeout: float | None = None) -> None:
        """SQLAlchemy gives a connection that a deadline has cut off 2 s to close politely, which is
        too long if the server hangs. After this limit asyncpg drops the socket."""
        await super().close(timeout=_CLOSE_SECONDS)


def _if_started(method: _Ending) -> _Ending:
    async def end(connection: AsyncConnection) -> None:
        if connection.sync_connection is not None:
            await method(connection)

    return end


class _LazyConnection(AsyncConnection):  # pylint: disable=abstract-method
    """Taken from the pool by its first statement, so a request that is rejected before it needs no
    database.

    SQLAlchemy's AsyncSession is lazy too, but what else it does is not needed here, and costs as
    much CPU as a round trip."""

    async def start(self, is_ctxmanager: bool = False) -> AsyncConnection:
        return self if is_ctxmanager else await super().start()

    async def execute(self, *arguments: Any, **options: Any) -> Any:
        """`scalar` and `scalars` call this too."""
        if self.sync_connection is None:
            await self.start()
        return await super().execute(*arguments, **options)

    commit = _if_started(AsyncConnection.commit)
    close = _if_started(AsyncConnection.close)


def _explicit(url: URL) -> dict[str, Any]:
    """Whatever asyncpg would else look for in the environment, in variables such as PGSSLMODE, and
    in the home directory: they are for other programs and other servers. No TLS unless the URL asks
    for it."""
    arguments = {
        "host": url.host or "localhost",
        "port": url.port or 5432,
        "user": url.username or "postgres",
        "password": url.password or "",
        "database": url.database or url.username or "postgres",
        "passfile": os.devnull,
        "ssl": False,
        "direct_tls": False,
        "target_session_attrs": "any",
        "krbsrvname": "postgres",
        "gsslib": "gssapi",
    }
    several = {"host", "port"} if "host" in url.query else set()
    return {name: arguments[name] for name in arguments.keys() - url.query.keys() - several}


def create_engine(
    url: str, connect_args: Mapping[str, Any] | None = None, **options: Any
) -> AsyncEngine:
    """For every connection to PostgreSQL, those of the migrations too."""
    explicit = _explicit(make_url(url))
    return create_async_engine(url, connect_args=explicit | dict(connect_args or {}), **options)


class Database:
    def __init__(self, url: str, pool_size: int) -> None:
        self._engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=1,
            connect_args={
                "timeout": 1.5,
                "server_settings": _SERVER_SETTINGS,
                "connection_class": _Connection,
            },
        )
        # One statement, one snapshot, one round trip.
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        event.listen(self._engine.sync_engine, "checkout", _refuse_closed)

    @asynccontextmanager
    async def transaction(self, deadline: float) -> AsyncIterator[AsyncConnection]:
        """A transaction that is rolled back at the end, unless its user commits.

        `deadline` is in seconds. Raises `Unavailable`."""
        async with self._connected(self._engine, deadline) as connection:
            yield connection

    @asynccontextmanager
    async def autocommit(self, deadline: float = REQUEST_SECONDS) -> AsyncIterator[AsyncConnection]:
        """Every statement is a transaction of its own, and sees what is committed by then.

        For reads, and for housekeeping in single statements. `deadline` is in seconds. Raises
        `Unavailable`."""
        async with self._connected(self._autocommit, deadline) as connection:
            yield connection

    @asynccontextmanager
    async def _connected(
        self, engine: AsyncEngine, deadline: float
    ) -> AsyncIterator[AsyncConnection]:
        with unavailable_if_transient():
            async with asyncio.timeout(deadline), _LazyConnection(engine) as connection:
                yield connection

    async def ping(self) -> None:
        """Raises `Unavailable` unless PostgreSQL answers within a second."""
        async with self.autocommit(deadline=1) as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self._engine.dispose()


def _refuse_closed(connection: Any, _record: Any, _proxy: Any) -> None:
    """Costs nothing, unlike a ping at each checkout: asyncio notices when a server closes the
    socket."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError("closed by the server")
