"""`serve` with a database configured: the HTTP API alone."""

import structlog

from app import web
from app.container import Container
from app.settings import Settings

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    for name in settings.default_passwords:
        log.warning(f"{name} has its default value, which is public: set another one in .env")
    listening = web.listen(settings)
    async with Container.open(settings) as container:
        await web.serve(container, listening)
