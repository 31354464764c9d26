"""Background loops that survive their own failures."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from app.errors import Unavailable

log = structlog.get_logger(__name__)

_PAUSE_AFTER_FAILURE = 5.0

Tick = Callable[[], Awaitable[None]]
# A tick, and the pause after it in seconds.
Loop = tuple[Tick, float]


async def _forever(tick: Tick, pause: float) -> None:
    while True:
        wait = min(pause, _PAUSE_AFTER_FAILURE)
        try:
            await tick()
            wait = pause
        except (Unavailable, TimeoutError) as error:
            log.debug("loop waits for a dependency", tick=tick.__qualname__, error=str(error))
        except Exception:
            log.exception("loop failed, going on", tick=tick.__qualname__)
        await asyncio.sleep(wait)


@asynccontextmanager
async def running(*loops: Loop) -> AsyncIterator[None]:
    """Run the loops until the context ends. A failed tick is logged and tried again."""
    tasks = [asyncio.create_task(_forever(tick, pause)) for tick, pause in loops]
    try:
        yield
    finally:
        await end(tasks)


async def end(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel them, and wait until they have ended."""
    # Again and again: in Python 3.11 asyncio.wait_for, which redis-py uses, can swallow a
    # cancellation.
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.5)


def heartbeat(file: Path | None, check: Tick) -> list[Loop]:
    """Touches the file while `check` finds that the process does what it is for: the health check
    of a process without a port. `check` raises Unavailable if it does not."""
    if file is None:
        return []

    async def beat() -> None:
        await check()
        file.touch()

    return [(beat, 5)]
