"""Runs the migrations. An advisory lock lets one process at a time through."""

import asyncio

from alembic import context
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.pool import NullPool

from app.database import create_engine
from app.models.base import Base
from app.settings import load_settings

# An arbitrary key that nothing else in this database uses.
ADVISORY_LOCK = 7_105_326


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
    with context.begin_transaction():
        # Four containers start together. One migrates, the others wait here and then find nothing to do.
        connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
        context.run_migrations()


async def connect_and_run(url: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
    except OSError as error:
        raise CommandError(
            f"cannot reach PostgreSQL: see DATABASE_URL, or DB_HOST and DB_PORT ({error})"
        ) from error
    finally:
        await engine.dispose()


if context.is_offline_mode():
    context.configure(
        url=load_settings().postgresql_url, target_metadata=Base.metadata, literal_binds=True
    )
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(
        connect_and_run(
            context.config.get_main_option("sqlalchemy.url") or load_settings().postgresql_url
        )
    )
