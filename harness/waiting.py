"""Waiting for a condition, with a time limit."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

_PAUSE = 0.02


async def eventually(
    condition: Callable[[], Any | Awaitable[Any]],
    seconds: float = 30,
    failure: Callable[[], str] = lambda: "the condition did not come true",
) -> Any:
    """Return the condition's first true value; fail with `failure()` after `seconds`.

    An assertion inside the condition fails at once.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert clock() < deadline, f"after {seconds} s: {failure()}"
        await asyncio.sleep(_PAUSE)
