"""Telling our own cancellation from a library's."""

import asyncio


def is_our_end(error: BaseException) -> bool:
    """Whether `error` is a CancelledError because somebody cancelled this task.

    If nobody did, the CancelledError comes from a library: we waited for a future of its own, which
    it cancelled when its connection died."""
    task = asyncio.current_task()
    is_cancelled = task is not None and task.cancelling() > 0
    return isinstance(error, asyncio.CancelledError) and is_cancelled
