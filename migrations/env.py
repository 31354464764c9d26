"""Runs the migrations. An advisory lock lets one process at a time through."""

import asyncio
import time

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import NullPool

from app.database_connections import create_engine, explain_login, is_absent
from app.models.base import Base
from app.server_addresses import PostgresAddress
from app.settings import load_settings

# An arbitrary key that nothing else in this database uses.
ADVISORY_LOCK = 7_105_326


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        # Four containers start together. One migrates, the others wait here and then find nothing to do.
        connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        context.run_migrations()


async def connect_and_run(address: PostgresAddress, wait_seconds: float) -> None:
    engine = create_engine(address, limited=False, poolclass=NullPool)
    give_up_at = time.monotonic() + wait_seconds
    try:
        connection = await connected(engine, address, give_up_at)
        try:
            await connection.run_sync(run)
        finally:
            await connection.close()
    finally:
        await engine.dispose()


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
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    settings = load_settings()
    # Set by whoever runs the migrations from Python: see app/cli/migrate.py.
    given = context.config.attributes.get("address")
    asyncio.run(connect_and_run(given or settings.postgresql_address, settings.db_wait_seconds))
