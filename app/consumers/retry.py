"""Keeping a delivery until it is settled."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TypeVar

import structlog

from app.errors import Poison, Unavailable
from app.metrics import HELD, MESSAGE_HOLDS
from app.queues import Queue
from app.runtime.cancellation import is_our_end

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
    """Try until it is done: the one place that decides about every exception. Only Poison and our
    own end leave it.

    A failure of a dependency is tried again for as long as it lasts. An unexpected error is too,
    until `count_failure` raises Poison; without it, for ever."""
    pause = _FIRST_PAUSE
    with ExitStack() as holding:
        while True:
            try:
                return await attempt()
            except Poison:
                raise
            except Unavailable as error:
                # Loud once: there may be many deliveries, and the wait may be long.
                write = log.warning if pause == _FIRST_PAUSE else log.debug
                write(
                    "holding a message", queue=queue, error=str(error), cause=repr(error.__cause__)
                )
            except asyncio.CancelledError as error:
                if is_our_end(error):
                    raise
                log.warning("a library gave up a message", queue=queue)
            except Exception as error:
                log.exception("message failed", queue=queue)
                if count_failure:
                    await _count(error, count_failure)
            MESSAGE_HOLDS.labels(queue).inc()
            if pause == _FIRST_PAUSE:
                holding.enter_context(HELD.hold(queue))
            # All deliveries that are held here wake at the same moments, so that orders share their
            # next attempt.
            await asyncio.sleep(pause - (time.monotonic() + _PHASE) % pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


async def _count(error: Exception, count_failure: Callable[[Exception], Awaitable[None]]) -> None:
    """Raises Poison. That a failure cannot be counted is no reason to lose the delivery."""
    try:
        await count_failure(error)
    except Poison:
        raise
    except Exception as uncounted:
        log.warning("a failure could not be counted", error=repr(uncounted))
