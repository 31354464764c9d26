"""Waiting for what must come, with a limit."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

_PAUSE = 0.02


async def eventually(
    condition: Callable[[], Any | Awaitable[Any]],
    seconds: float = 10,
    story: Callable[[], str] = lambda: "it did not come true",
) -> Any:
    """The condition's first true value. Its assertions fail at once; the limit with the story."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert clock() < deadline, f"after {seconds} s: {story()}"
        await asyncio.sleep(_PAUSE)
