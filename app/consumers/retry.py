"""Keeping a delivery while a dependency is away."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from app.errors import Poison, Unavailable
from app.metrics import MESSAGE_HOLDS
from app.schemas.messages import Queue

log = structlog.get_logger(__name__)
T = TypeVar("T")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
# No two processes try again at the same moment.
_PHASE = random.uniform(0, _LONGEST_PAUSE)


async def retry_until_available(
    queue: Queue,
    attempt: Callable[[], Awaitable[T]],
    count_failure: Callable[[Exception], Awaitable[None]] | None = None,
) -> T:
    """Try for as long as a dependency is away. An unexpected error is tried again too, until
    `count_failure` raises Poison; without it, for ever."""
    pause = _FIRST_PAUSE
    while True:
        try:
            return await attempt()
        except Poison:
            raise
        except Unavailable as error:
            # Loud once: there may be many deliveries, and the wait may be long.
            write = log.warning if pause == _FIRST_PAUSE else log.debug
            write("holding a message", queue=queue, error=str(error))
        except Exception as error:
            log.exception("message failed", queue=queue)
            if count_failure:
                await count_failure(error)
        MESSAGE_HOLDS.labels(queue).inc()
        # All deliveries that are held here wake at the same moments, so that orders share their
        # next attempt.
        await asyncio.sleep(pause - (time.monotonic() + _PHASE) % pause)
        pause = min(pause * 2, _LONGEST_PAUSE)
