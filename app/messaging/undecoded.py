"""FastStream's options for handlers that get bodies as the bytes that were sent."""

from typing import Any


async def _undecoded(message: Any) -> Any:
    """FastStream would decode JSON before the handler runs, where we cannot catch a failure."""
    return message


# FastStream would match a handler's arguments to its types in a thread, which takes longer than an
# order.
UNDECODED: dict[str, Any] = {"decoder": _undecoded, "apply_types": False}
