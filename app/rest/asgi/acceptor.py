"""Accepts connections. uvloop's own server accepts one per turn of the event loop, so under load a
newcomer would wait for as many turns as there are newcomers before it."""

import asyncio
import errno
import socket
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

_BACKLOG = 2048
_MOST_PER_TURN = 256
# As in asyncio's own server: out of descriptors or memory, which others may give back.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_SECONDS = 1.0


class Acceptor:
    """`close` and `wait_closed` are what uvicorn asks of a server."""

    def __init__(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._listening = listening
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._opening: set[asyncio.Task[object]] = set()
        listening.setblocking(False)
        listening.listen(_BACKLOG)
        self._resume()

    def _resume(self) -> None:
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_MOST_PER_TURN):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                log.error("no connection can be accepted", error=error.strerror)
                self._loop.remove_reader(self._listening)
                self._resuming = self._loop.call_later(_PAUSE_SECONDS, self._resume)
                return
            opening = self._loop.create_task(self._open(connection))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # the client has left
            connection.close()

    def close(self) -> None:
        # Those that wait have connected, and may have sent their requests: the kernel would reset
        # them.
        self._accept()
        if self._resuming:
            self._resuming.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()

    async def wait_closed(self) -> None:
        """Its connections have ended: uvicorn waits for them itself."""
