"""Whose cancellation it is."""

import asyncio


def is_ours() -> bool:
    """False if nobody has cancelled this task: then a library lets us wait for a future of its own,
    which it has cancelled because its connection died."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
