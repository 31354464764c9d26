"""Connections to PostgreSQL: to one of several hosts, with TLS or without, directly or through a
pooler. Nothing is taken from the environment or the home directory, where asyncpg would look: what
is there is for other programs and other servers."""

import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakSet

import asyncpg
import structlog
from asyncpg.connect_utils import SessionAttribute
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.runtime import tracing
from app.server_addresses import PostgresAddress

log = structlog.get_logger(__name__)

_SESSION = {"application_name": "order-service", "timezone": "UTC"}
# The server's own limits, in milliseconds. The client's limit is a deadline.
_LIMITS = {
    "statement_timeout": "10000",
    "lock_timeout": "2000",
    "idle_in_transaction_session_timeout": "20000",
}
# Before PostgreSQL 18, a plan that cannot do without a sequential scan, where they are off (below),
# costs so much that PostgreSQL would compile it, each time.
_PLANS = {"jit": "off"}
_CONNECT_SECONDS = 1.5
# The timeline of a server that takes writes, in hexadecimal. It rises when a standby is promoted.
_TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"
_PATIENT_SECONDS = 10
_CLOSE_SECONDS = 0.2
POOLED = "a pooler such as PgBouncer refuses our limits: set DB_POOLER"
_NEXT_HOST = (
    *(OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError),
    asyncpg.TargetServerAttributeNotMatched,
)


def is_absent(error: BaseException) -> bool:
    """Whether the server does not answer, or not yet."""
    return isinstance(driver_error(error), _NEXT_HOST)


def refuses_limits(error: BaseException) -> bool:
    return "startup parameter" in str(driver_error(error))


def driver_error(error: BaseException) -> BaseException:
    """What asyncpg raised: SQLAlchemy wraps it twice, or not at all while it connects."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def explain_login(error: BaseException, address: PostgresAddress) -> str:
    """One line that names the variable to look at, or nothing if it is not about the login."""
    cause = driver_error(error)
    if refuses_limits(error):
        return f"{address.place}: {POOLED}"
    if isinstance(cause, ssl.SSLError):
        return (
            f"the certificate of PostgreSQL at {address.place} is not accepted: see TLS_CA_FILE, "
            f"or sslmode and sslrootcert in DATABASE_URL ({cause})"
        )
    if is_absent(error):
        return (
            f"cannot reach PostgreSQL at {address.place}: see DATABASE_URL, or DB_HOST and "
            f"DB_PORT ({cause})"
        )
    return _explain_refusal(getattr(cause, "sqlstate", None) or "", cause, address)


def _explain_refusal(state: str, cause: BaseException, address: PostgresAddress) -> str:
    if state == "28000":
        return (
            f"PostgreSQL at {address.place} does not let {address.user} in: see POSTGRES_USER, and "
            f"sslmode in DATABASE_URL ({cause})"
        )
    if state == "28P01":
        return (
            f"PostgreSQL at {address.place} refuses the login of {address.user}. A new password "
            "must be set there first: see docs/running.md#new-passwords. Until then, put the old "
            f"POSTGRES_PASSWORD back ({cause})"
        )
    if state == "3D000":
        return f"PostgreSQL at {address.place}: {cause}: see POSTGRES_DB, or create it"
    return ""


class _Connection(asyncpg.Connection):
    """A plan that is made while a table is empty is kept until the table is analyzed, and would
    read all of it for each order till then. So transactions do without sequential scans; those that
    are long take them back (repositories/long_statements.py). The setting comes with each BEGIN, in
    the same message. New plans each time would help too, but PostgreSQL would also plan each check
    of a foreign key."""

    _AT_BEGIN = " SET LOCAL enable_seqscan = off;"

    async def execute(self, query: str, *arguments: Any, timeout: float | None = None) -> str:
        if query.startswith("BEGIN"):
            query += self._AT_BEGIN
        return await super().execute(query, *arguments, timeout=timeout)

    async def close(self, *, timeout: float | None = None) -> None:
        """SQLAlchemy gives a connection that a deadline has cut off 2 s to close politely, which is
        too long if the server hangs. After this limit asyncpg drops the socket."""
        await super().close(timeout=_CLOSE_SECONDS)


class _PooledConnection(_Connection):
    """A pooler refuses these settings as start parameters, and a SET would stay on a connection
    that others get next. So they come with each BEGIN too. A statement without a transaction has
    the deadline alone."""

    _AT_BEGIN = _Connection._AT_BEGIN + "".join(
        f" SET LOCAL {name} = {value};" for name, value in (_LIMITS | _PLANS).items()
    )


def create_engine(
    address: PostgresAddress, *, hosts: "Hosts | None" = None, limited: bool = True, **options: Any
) -> AsyncEngine:
    """For every connection to PostgreSQL. Those of the migrations have no limits."""
    hosts = hosts or Hosts(address)
    parameters = {**_SESSION, **address.parameters}
    seconds = _CONNECT_SECONDS if limited else _PATIENT_SECONDS
    arguments: dict[str, Any] = {
        "server_settings": parameters,
        "timeout": seconds / len(address.hosts),
    }
    if limited:
        arguments["connection_class"] = _PooledConnection if address.pooler else _Connection
        parameters |= {} if address.pooler else _LIMITS | _PLANS
    prepared: dict[str, Any] = {}
    if address.pooler == "transaction":
        # Statements without a name, which are parsed again in the packet that executes them: the
        # server connection that parsed them first may serve somebody else by then.
        arguments["statement_cache_size"] = 0
        prepared = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"async_creator_fn": partial(hosts.connect, **arguments), **prepared},
        **options,
    )
    tracing.watch(engine.sync_engine)
    return engine


class Hosts:
    """The servers that an address names, the one of last time first.

    After a failover the old primary may still be running, or run again, and take itself for one.
    What tells them apart is the timeline, so a process remembers the newest that it has seen, and
    ends its connections to the primary before."""

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self._places = list(address.hosts)
        self._timeline = 0
        self._connections: WeakSet[asyncpg.Connection[Any]] = WeakSet()

    @property
    def are_several(self) -> bool:
        return len(self._places) > 1

    async def connect(self, **arguments: Any) -> "asyncpg.Connection[Any]":
        """To the first host that will do. One that does not answer leaves the next its time."""
        failure: Exception | None = None
        for place in tuple(self._places):
            try:
                return await self._connect_newest(place, arguments)
            except _NEXT_HOST as error:
                failure = error
        assert failure is not None
        raise failure

    async def _connect_newest(
        self, place: tuple[str, int], arguments: Mapping[str, Any]
    ) -> "asyncpg.Connection[Any]":
        connection = await _connect_to(place, self._address, arguments)
        try:
            if self.are_several and not await self._is_newest(connection):
                raise ConnectionError(f"{place} was the primary once")
        except BaseException:
            connection.terminate()
            raise
        self._connections.add(connection)
        self._places.remove(place)
        self._places.insert(0, place)
        return connection

    async def _is_newest(self, connection: "asyncpg.Connection[Any]") -> bool:
        try:
            found = await connection.fetchval(_TIMELINE, timeout=_CONNECT_SECONDS)
            timeline = int(found, 16)
        except asyncpg.PostgresError:  # a standby, which somebody has asked for
            return True
        if timeline > self._timeline > 0:
            log.warning("PostgreSQL has another primary")
            self._leave()
        self._timeline = max(self._timeline, timeline)
        return timeline == self._timeline

    def _leave(self) -> None:
        """What waits there for a commit would wait for its deadline."""
        for connection in list(self._connections):
            connection.terminate()
        self._connections.clear()

    async def look(self) -> None:
        """Whether another host has become the primary: the one that we use may never tell."""
        for place in tuple(self._places[1:]):
            with suppress(*_NEXT_HOST, asyncpg.PostgresError):
                connection = await _connect_to(place, self._address, {"timeout": _CONNECT_SECONDS})
                try:
                    await self._is_newest(connection)
                finally:
                    await connection.close(timeout=_CLOSE_SECONDS)


async def _connect_to(
    place: tuple[str, int], address: PostgresAddress, arguments: Mapping[str, Any]
) -> "asyncpg.Connection[Any]":
    host, port = place

    async def connect(tls: ssl.SSLContext | None) -> "asyncpg.Connection[Any]":
        connection: asyncpg.Connection[Any] = await asyncpg.connect(
            host=host,
            port=port,
            user=address.user,
            password=address.password,
            database=address.database,
            ssl=tls or False,
            target_session_attrs=SessionAttribute(address.target_session_attrs),
            passfile=os.devnull,
            direct_tls=False,
            krbsrvname="postgres",
            gsslib="gssapi",
            **arguments,
        )
        return connection

    try:
        return await connect(address.tls)
    except ConnectionError as error:
        # asyncpg has no class of its own for a server without TLS.
        if not address.tls_is_optional or "rejected SSL upgrade" not in str(error):
            raise
    return await connect(None)
