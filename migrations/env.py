"""Runs the migrations while the service runs: see docs/upgrades.md. An advisory lock lets one
process at a time through."""

import asyncio
import logging
import time

from alembic import context
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from app.database_connections import create_engine, driver_error, explain_login, is_absent
from app.models.base import Base
from app.server_addresses import PostgresAddress
from app.settings import load_settings

log = logging.getLogger("alembic.runtime.migration")
# Warnings of migrations too: Alembic's own handler drops them. Has no effect in the one-process
# mode, where the service's logs are configured.
logging.basicConfig(format="%(levelname)s: %(message)s")
# What it logs as an error, it also prints.
logging.getLogger("alembic.util.messaging").setLevel(logging.CRITICAL)

# An arbitrary key that nothing else in this database uses.
ADVISORY_LOCK = 7_105_326
# Who waits for a table keeps all others waiting behind it. So it is for less than the 2 s for which
# the service's own statements wait, and less than PostgreSQL's deadlock_timeout: the migration
# gives up, not a request.
LOCK_TIMEOUT = "800ms"
PAUSE_SECONDS = 3
# Lock not available, deadlock detected.
IN_USE = ("55P03", "40P01")


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        # No table stays locked while the next migration runs, and one that creates an index
        # concurrently ends a transaction that has nothing else in it.
        transaction_per_migration=True,
    )
    if is_of_a_newer_release():
        log.warning("the database is of a newer release than this one: there is nothing to migrate")
        return
    with context.begin_transaction():
        context.run_migrations()


def is_of_a_newer_release() -> bool:
    """While a new release comes, containers of the old one may still start. What the new one does
    to the tables, the old one can live with; where it cannot, /health/ready names the column."""
    migration = context.get_context()
    if migration.opts.get("destination_rev") != "head":  # alembic current, downgrade, stamp, check
        return False
    scripts = ScriptDirectory.from_config(context.config)
    known = {script.revision for script in scripts.walk_revisions()}
    return not known.issuperset(migration.get_current_heads())


async def connect_and_run(address: PostgresAddress, wait_seconds: float) -> None:
    engine = create_engine(address, limited=False, poolclass=NullPool)
    give_up_at = time.monotonic() + wait_seconds
    try:
        alone = await connected(engine, address, give_up_at)
        try:
            # Four containers start together. One migrates, the others wait here and then find
            # nothing to do.
            await lock(alone)
            while not await migrate(engine):
                log.warning("a table is in use: the migration tries again in %s s", PAUSE_SECONDS)
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            await alone.close()
    finally:
        await engine.dispose()


async def lock(connection: AsyncConnection) -> None:
    """Until the connection closes. Who waits inside a statement has a snapshot, for whose end
    CREATE INDEX CONCURRENTLY waits: so it asks again instead."""
    take = text(f"SELECT pg_try_advisory_xact_lock({ADVISORY_LOCK})")
    while not await connection.scalar(take):
        await connection.rollback()
        await asyncio.sleep(0.1)
    # A transaction, because behind a pooler nothing else stays with one server connection.
    await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


async def migrate(engine: AsyncEngine) -> bool:
    """False if others have kept a table too long. That migration has changed nothing then."""
    async with engine.connect() as connection:
        assert connection.sync_connection
        event.listen(connection.sync_connection, "begin", limit_locks)
        try:
            await connection.run_sync(run)
        except DBAPIError as error:
            if getattr(driver_error(error), "sqlstate", None) not in IN_USE:
                raise
            return False
    return True


def limit_locks(connection: Connection) -> None:
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")


async def connected(
    engine: AsyncEngine, address: PostgresAddress, give_up_at: float
) -> AsyncConnection:
    """Raises CommandError with one line that says what to do."""
    while True:
        try:
            return await engine.connect().start()
        except Exception as error:
            if not (told := explain_login(error, address)):
                raise
            if not is_absent(error) or time.monotonic() >= give_up_at:
                raise CommandError(told) from error
        await asyncio.sleep(1)


if context.is_offline_mode():
    context.configure(
        dialect_name="postgresql",
        target_metadata=Base.metadata,
        literal_binds=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    settings = load_settings()
    # Set by whoever runs the migrations from Python: see app/cli/migrate.py.
    given = context.config.attributes.get("address")
    asyncio.run(connect_and_run(given or settings.postgresql_address, settings.db_wait_seconds))
