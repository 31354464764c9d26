"""Background loops that outlive their own failures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from app.errors import Unavailable

log = structlog.get_logger(__name__)

_PAUSE_AFTER_FAILURE = 5.0

Step = Callable[[], Awaitable[None]]


async def _forever(step: Step, pause: float) -> None:
    while True:
        wait = min(pause, _PAUSE_AFTER_FAILURE)
        try:
            await step()
            wait = pause
        except (Unavailable, TimeoutError) as error:
            log.debug("loop waits for its surroundings", step=step.__qualname__, error=str(error))
        except Exception:
            log.exception("loop failed, going on", step=step.__qualname__)
        await asyncio.sleep(wait)


@asynccontextmanager
async def running(*loops: tuple[Step, float]) -> AsyncIterator[None]:
    """Repeat each step, with its pause in seconds, until the context ends."""
    tasks = [asyncio.create_task(_forever(step, pause)) for step, pause in loops]
    try:
        yield
    finally:
        # Until it is heard: in Python 3.11 asyncio.wait_for, which redis-py uses, can lose it.
        while pending := [task for task in tasks if not task.done()]:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending, timeout=0.5)


def heartbeat(file: Path | None) -> list[tuple[Step, float]]:
    """Touch the file while the event loop turns: the health check of a process without a port."""
    if file is None:
        return []

    async def touch() -> None:
        file.touch()

    return [(touch, 5)]
