"""A TCP proxy that can refuse, cut, delay and hang. Each client of a server gets its own."""

import asyncio
import itertools
import random
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Flag
from typing import cast

from app.embedded.ports import LOOPBACK, free_port

# SO_LINGER of zero seconds: closing sends a RST. A normal close would still deliver what was sent.
_RESET = struct.pack("ii", 1, 0)


class Direction(Flag):
    TO_SERVER = 1
    TO_CLIENT = 2
    BOTH = 3


class Proxy:
    """A new proxy forwards everything. Faults last until `heal`, and they can be combined."""

    host = LOOPBACK

    def __init__(self, target_port: int, target_host: str = LOOPBACK) -> None:
        self.port = free_port()
        self.target = (target_host, target_port)
        self.connections = 0
        self.hung = Direction(0)
        self._delay: Callable[[], float] | None = None
        self._pipes: set[_Pipe] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listens, always on the same port."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: _Pipe(self, Direction.TO_SERVER), self.host, self.port
            )

    async def refuse(self) -> None:
        """Breaks all connections and refuses new ones, as a stopped server does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Breaks all current connections."""
        for pipe in list(self._pipes):
            pipe.abort()

    def delay(self, longest: float, shortest: float = 0.0, skew: float = 1.0) -> None:
        """Holds every chunk for a random time, in seconds. A `skew` above 1 favours short times."""
        self._delay = lambda: shortest + (longest - shortest) * random.random() ** skew

    def hang(self, direction: Direction = Direction.BOTH) -> None:
        """Forwards nothing in this direction. What was sent meanwhile arrives after `heal`."""
        self.hung = direction
        self._turn_pipes()

    async def heal(self) -> None:
        self.hung, self._delay = Direction(0), None
        self._turn_pipes()
        await self.start()

    async def close(self) -> None:
        await self.refuse()

    def next_target(self) -> tuple[str, int]:
        """Where the next connection goes."""
        return self.target

    def holding_time(self) -> float:
        return self._delay() if self._delay else 0.0

    def add(self, pipe: "_Pipe") -> None:
        self.connections += pipe.direction is Direction.TO_SERVER
        self._pipes.add(pipe)

    def remove(self, pipe: "_Pipe") -> None:
        self._pipes.discard(pipe)

    def _turn_pipes(self) -> None:
        for pipe in self._pipes:
            pipe.turn()


class _Pipe(asyncio.Protocol):
    """One side of a connection: what it reads, it writes to `other`, in its `direction`."""

    def __init__(self, proxy: Proxy, direction: Direction, other: "_Pipe | None" = None) -> None:
        self.direction = direction
        self._proxy = proxy
        self._other = other
        self._transport: asyncio.Transport | None = None
        self._late: deque[bytes] = deque()
        self._held: deque[bytes] = deque()
        self._free_at = 0.0
        self._full = False
        self._connecting: asyncio.Task[None] | None = None

    @property
    def _open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._proxy.add(self)
        if self._other is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        other = _Pipe(self._proxy, Direction.TO_CLIENT, self)
        try:
            host, port = self._proxy.next_target()
            await asyncio.get_running_loop().create_connection(lambda: other, host, port)
        except OSError:
            return self.abort()
        self._other = other
        if not self._open:
            return other.abort()
        self.turn()

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._late.append(data)
        # A chunk never overtakes the one before it.
        self._free_at = max(self._free_at, loop.time() + self._proxy.holding_time())
        if self._free_at <= loop.time():
            self._pass_on_next()
        else:
            loop.call_at(self._free_at, self._pass_on_next)

    def _pass_on_next(self) -> None:
        """Passes on the oldest chunk: timers that are due together fire in any order."""
        self._held.append(self._late.popleft())
        self.turn()

    def write(self, data: bytes) -> None:
        if self._transport is not None and self._open:
            self._transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.remove(self)
        if self._other is not None:
            self._other.finish()

    def finish(self) -> None:
        """Closes once everything is written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None and self._open:
            linger = self._transport.get_extra_info("socket").setsockopt
            linger(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.hold(True)

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.hold(False)

    def hold(self, full: bool) -> None:
        self._full = full
        self.turn()

    def turn(self) -> None:
        """Reads and forwards, or stops reading, so that the kernel's buffers fill up and the sender
        has to wait."""
        hung = self.direction in self._proxy.hung
        if self._other is not None and not hung:
            while self._held:  # a write that fills the other's buffer calls this again
                self._other.write(self._held.popleft())
        if self._transport is not None and self._open:
            if self._full or hung:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()


class Balancer(Proxy):
    """In front of several servers, each connection to the next, whether it lives or not."""

    def __init__(self, *targets: tuple[str, int]) -> None:
        super().__init__(targets[0][1], targets[0][0])
        self._targets = itertools.cycle(targets)

    def next_target(self) -> tuple[str, int]:
        return next(self._targets)


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
