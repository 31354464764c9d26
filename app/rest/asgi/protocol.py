"""HTTP/1.1 on a connection: uvicorn's zttp protocol, with the limits that it leaves open.

A client may be slow, silent or hostile. Whatever it does, it holds neither memory nor the last
connection: every state in which a connection waits for its client has a time limit, and when there
are too many connections, those that wait for their clients are closed first.
"""

import asyncio
from collections.abc import Iterable
from string import ascii_letters
from typing import Any, cast

import zttp
from uvicorn.config import Config
from uvicorn.protocols.http.zttp_impl import ZttpProtocol
from uvicorn.server import ServerState

# From the first byte of a request's head, or from the connection's beginning, to the head's end.
HEAD_SECONDS = 10
# How long a response may wait for a client that does not read it.
UNREAD_SECONDS = 30
# Of one process; each is a file descriptor and some kilobytes.
MOST_CONNECTIONS = 2000
# Beyond this, pass the data on: only the real transport can tell a writer to wait.
_MOST_HELD_BYTES = 16 * 1024

# A request begins with its method; empty lines before it are allowed.
_BEGINNINGS = frozenset(b"\r\n" + ascii_letters.encode())

# In the state of a request whose connection is one too many: see gatekeeper.py.
OVERLOADED = "overloaded"
# In the state of a request whose body has come with its head: nobody has to wait for it.
WHOLE = "whole"


class Protocol(ZttpProtocol):
    """Limits come from zttp (a head of at most 64 KiB) and from `close_overdue`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Since when the connection has waited for the rest of a head, or for its client to read.
        self._head_since: float | None = None
        self._unread_since: float | None = None
        # Since when it has waited for its next request.
        self._idle_since: float | None = None
        self._has_spoken = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._head_since = self.loop.time()
        super().connection_made(cast(asyncio.Transport, CorkedTransport(transport)))
        if len(self.connections) > MOST_CONNECTIONS and not make_room(self.connections):
            self.app_state = {**self.app_state, OVERLOADED: True}

    def data_received(self, data: bytes) -> None:
        if self._responding:
            # The next request, sent before the response to this one. The rest of it waits in the
            # kernel: what is read stays in memory.
            self.flow.pause_reading()
        if not self._has_spoken and data[0] not in _BEGINNINGS:
            self.handle_remote_protocol_error()  # TLS, say: zttp would wait for the head's end
            return
        self._has_spoken = True
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._head_since = self._head_since or self.loop.time()
        else:
            self._head_since = None

    def handle_events(self, event: zttp.Event) -> None:
        """Also called for the next request of a connection, when a response is complete."""
        try:
            super().handle_events(event)
        except UnicodeDecodeError as error:  # uvicorn takes every target for ASCII
            raise zttp.RemoteProtocolError("the target is not ASCII") from error
        if isinstance(event, zttp.Request) and not self.cycle.more_body:
            self.scope["state"][WHOLE] = True

    def on_response_complete(self) -> None:
        """As uvicorn's, which makes a timer for each response; here `close_overdue` looks."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._idle_since = self.loop.time()
        self.flow.resume_reading()
        if self.cycle.more_body:
            return
        self.conn.start_next_cycle()
        try:
            self.handle_events(self.conn.next_event())
        except zttp.RemoteProtocolError:
            self.handle_remote_protocol_error()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def pause_writing(self) -> None:
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._unread_since = None
        super().resume_writing()

    def _should_upgrade(self) -> bool:
        """Never: an offered upgrade is ignored, and the request is served as it is."""
        return False

    @property
    def _responding(self) -> bool:
        """Whether a request is complete, and its response is not."""
        cycle = self.cycle
        return cycle is not None and not cycle.more_body and not cycle.response_complete

    @property
    def works(self) -> bool:
        """Whether the connection does not wait for its client."""
        return self._responding and self._unread_since is None

    def close_if_overdue(self, now: float) -> None:
        head, unread, idle = self._head_since, self._unread_since, self._idle_since
        if (head and now - head > HEAD_SECONDS) or (unread and now - unread > UNREAD_SECONDS):
            self.transport.abort()
        elif idle and now - idle > self.timeout_keep_alive:
            self.transport.close()


def close_overdue(connections: Iterable[Any], now: float) -> None:
    for connection in list(connections):
        connection.close_if_overdue(now)


def make_room(connections: Iterable[Any]) -> bool:
    """Close a tenth of the connections that wait for their clients. False if none does.

    Not one by one, since the search costs more than the closing."""
    waiting = [connection for connection in connections if not connection.works]
    closed = waiting[: max(1, len(waiting) // 10)]
    for connection in closed:
        connection.transport.abort()
    return bool(closed)


class CorkedTransport:
    """Writes once per iteration of the event loop: uvicorn writes the head and the body of a
    response one after the other, uvloop would send each at once, and the second system call costs
    a tenth of a cached read."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing  # asked after every response
        self._loop = asyncio.get_running_loop()
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > _MOST_HELD_BYTES:
            self._flush()

    def write_whole(self, response: bytes) -> None:
        """All of it: there is no second part that it could wait for."""
        self._held.append(response)
        self._flush()

    def _flush(self) -> None:
        if self._held:
            data, self._held, self._size = b"".join(self._held), [], 0
            if not self.is_closing():  # uvloop raises when the client has gone
                self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
