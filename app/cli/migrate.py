import logging

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from app.server_addresses import PostgresAddress
from app.settings import ROOT


def migrate(address: PostgresAddress) -> None:
    """Bring the database to the newest revision. Blocks: migrations/env.py runs an event loop."""
    config = Config(ROOT / "app" / "alembic.ini")
    config.attributes["address"] = address
    command.upgrade(config, "head")


def migrate_aloud(address: PostgresAddress) -> None:
    """Each step is a line. Raises SystemExit with one line if it cannot be done."""
    logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)
    try:
        migrate(address)
    except CommandError as error:
        raise SystemExit(f"migrate: {error}") from None
    print(f"The tables of {address.database} at {address.place} are those of this version.")
