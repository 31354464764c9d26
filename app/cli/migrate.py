from alembic import command
from alembic.config import Config

from app.server_addresses import PostgresAddress
from app.settings import ROOT


def migrate(address: PostgresAddress) -> None:
    """Bring the database to the newest revision. Blocks: migrations/env.py runs an event loop."""
    config = Config(ROOT / "app" / "alembic.ini")
    config.attributes["address"] = address
    command.upgrade(config, "head")
