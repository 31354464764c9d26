"""The head and the body of an answer in one system call, which costs as much as a tenth of a
cached read: uvicorn writes them one after the other, and uvloop sends each at once."""

import asyncio
from typing import Any

# With more than this at hand the real transport must know, for it tells the writer when to wait.
_MOST_HELD = 16 * 1024


class CorkedTransport:
    """A transport that writes once in a turn of the event loop."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > _MOST_HELD:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            data, self._held, self._size = b"".join(self._held), [], 0
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
