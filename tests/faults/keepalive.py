"""An HTTP/1.1 client with keep-alive and little else: so cheap that the servers get the CPU."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from app.embedded.ports import LOOPBACK

_LENGTH = b"content-length:"
_CHUNKED = b"transfer-encoding: chunked"


class Response(NamedTuple):
    status: int
    body: bytes
    began: float
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Lost(Exception):
    """The connection broke or no response came in time: the request may or may not have acted."""


class KeepAlive:
    """One connection, opened again after it breaks. For one request at a time."""

    def __init__(self, port: int, limit: float = 10) -> None:
        self._port = port
        self._limit = limit
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> Response:
        return await self.send("GET", path)

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """Raises Lost. `began` of the response is the time just before the first byte was sent."""
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
        if body is not None:
            head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
        for name, value in headers.items():
            head += f"{name.replace('_', '-')}: {value}\r\n"
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limit):
                status, response = await self._exchange(f"{head}\r\n".encode() + content)
        except (OSError, EOFError) as error:
            self.close()
            raise Lost(f"{method} {path}: {error!r}") from error
        except BaseException:  # the next request would get this one's response
            self.close()
            raise
        return Response(status, response, began, time.monotonic() - began)

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(LOOPBACK, self._port)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        at = head.find(_LENGTH)
        if at < 0 and _CHUNKED in head:
            return int(head[9:12]), b"".join([chunk async for chunk in _chunks(reader)])
        length = int(head[at + len(_LENGTH) : head.index(b"\r", at)]) if at >= 0 else 0
        return int(head[9:12]), await reader.readexactly(length) if length else b""

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
