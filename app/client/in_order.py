"""Calls that run side by side, with results in the order of what they were called with."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

R = TypeVar("R")


async def in_order(
    call: Callable[..., Awaitable[R]], items: Iterable[tuple[object, ...]], limit: int
) -> AsyncIterator[R]:
    """The results of `call(*item)`, `limit` of them at work at a time. The first error, in the same
    order, ends it and cancels what is at work."""
    at_work: deque[asyncio.Future[R]] = deque()
    try:
        for item in items:
            if len(at_work) == limit:
                yield await at_work.popleft()
            at_work.append(asyncio.ensure_future(call(*item)))
        while at_work:
            yield await at_work.popleft()
    finally:
        for future in at_work:
            future.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)
