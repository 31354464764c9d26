from alembic import command
from alembic.config import Config

from app.settings import ROOT


def migrate(url: str) -> None:
    """Bring the database to the newest revision. Blocks: migrations/env.py runs an event loop."""
    config = Config(ROOT / "app" / "alembic.ini")
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(config, "head")
