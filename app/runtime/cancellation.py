"""Whose cancellation it is."""

import asyncio


def is_our_end(error: BaseException) -> bool:
    """Whether this task has been cancelled. If nobody has, a CancelledError is a library's: it lets
    us wait for a future of its own, which it has cancelled because its connection died."""
    task = asyncio.current_task()
    is_cancelled = task is not None and task.cancelling() > 0
    return isinstance(error, asyncio.CancelledError) and is_cancelled
