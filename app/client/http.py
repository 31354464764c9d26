"""HTTP/1.1 over a few connections that are kept open.

By hand, with the parser that the server has: httpx spends more on a request than the service does,
and takes a fifth of a second to import."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import zttp

from app.runtime import tracing

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True)
class HttpResponse:
    """The names of the headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Disconnected(ConnectionError):
    """The server closed the connection before it sent a response."""


class HttpClient:
    """At most `connections` requests at a time. Raises OSError, TimeoutError, and ValueError for
    what is no URL or no HTTP."""

    def __init__(self, url: str, headers: Headers, connections: int, seconds: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("not an http:// or https:// URL")
        default = 443 if parts.scheme == "https" else 80
        self._host, self._port = parts.hostname, parts.port or default
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/")
        self._headers = [(b"host", parts.netloc.rpartition("@")[2].encode()), *headers]
        self._seconds = seconds
        self._free = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def send(
        self, method: str, target: str, body: bytes = b"", *, is_repeatable: bool = True
    ) -> HttpResponse:
        """What is repeatable is sent again if its connection turns out to be closed."""
        async with self._free, asyncio.timeout(self._seconds):
            trace = tracing.carried().items()
            head = [*self._headers, *((n.encode(), v.encode()) for n, v in trace)]
            if body:
                head += [
                    (b"content-type", b"application/json"),
                    (b"content-length", b"%d" % len(body)),
                ]
            while True:
                is_new = not self._idle
                connection = await self._connect() if is_new else self._idle.pop()
                try:
                    return await self._exchange(
                        connection, (method, self._prefix + target, head, body)
                    )
                except ConnectionError:
                    # The server may close an idle connection while a request is on its way.
                    if is_new or not is_repeatable:
                        raise

    async def _connect(self) -> "_Connection":
        return _Connection(*await asyncio.open_connection(self._host, self._port, ssl=self._tls))

    async def _exchange(
        self, connection: "_Connection", request: tuple[str, str, Headers, bytes]
    ) -> HttpResponse:
        is_reusable = False
        try:
            response = await connection.exchange(*request)
            is_reusable = not connection.must_close
            return response
        finally:
            if is_reusable:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = zttp.Connection(zttp.CLIENT)
        self.must_close = False

    async def exchange(
        self, method: str, target: str, headers: Headers, body: bytes
    ) -> HttpResponse:
        try:
            self._http.send_request(method.encode(), target.encode(), b"1.1", list(headers))
            if body:
                self._http.send_data(body)
            self._http.end_message()
            self._writer.write(self._http.data_to_send())
            head, content = await self._response()
            self.must_close = self._http.should_close()
            self._http.start_next_cycle()
        except zttp.ProtocolError as error:
            raise ValueError(str(error)) from error
        names = ((n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in head.headers)
        return HttpResponse(head.status_code, dict(names), content)

    async def _response(self) -> tuple[zttp.Response, bytes]:
        head: zttp.Response | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is zttp.NEED_DATA:
                data = await self._reader.read(65_536)
                if not data and head is None:
                    raise Disconnected("the server closed the connection")
                self._http.receive_data(data)
            elif isinstance(event, zttp.Response):
                if event.status_code >= 200:
                    head = event
            elif isinstance(event, zttp.Data):
                body += event.data
            elif isinstance(event, zttp.EndOfMessage) and head is not None:
                return head, bytes(body)
            elif event is zttp.CONNECTION_CLOSED:
                raise Disconnected("the server closed the connection")

    def close(self) -> None:
        self._writer.close()
