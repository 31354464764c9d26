"""`web`: the HTTP API alone, in one process or several."""

import socket

import structlog

from app import web
from app.cli import web_processes
from app.cli.configured import require_database
from app.container import Container
from app.settings import Settings

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Raises SystemExit if no database is configured."""
    require_database(settings)
    for name in settings.default_passwords:
        log.warning(f"{name} has its default value, which is public: set another one in .env")
    listening = web.listen(settings)
    if settings.web_concurrency > 1:
        await web_processes.serve(settings, listening)
        return
    async with Container.open(settings) as container:
        await web.serve(container, listening)


async def run_one_of_several(settings: Settings, descriptor: int) -> None:
    """On the listening socket of the parent process."""
    async with Container.open(settings) as container:
        listening = socket.socket(fileno=descriptor)
        await web.serve(container, listening, web_processes.is_ready)
