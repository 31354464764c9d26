"""TLS in front of servers that have none of their own, with an authority made for the test."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import trustme

from app.embedded.ports import LOOPBACK

# The first message of a client of PostgreSQL that wants TLS. The answer is one letter.
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


class Authority:
    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    @property
    def trusting(self) -> ssl.SSLContext:
        """Of a client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.file)
        return context

    def context(self, name: str) -> ssl.SSLContext:
        """Of a server with a certificate for this name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(name).configure_cert(context)
        return context

    def files(self, name: str, directory: Path) -> tuple[Path, Path]:
        """The certificate of a server of this name, and its key."""
        issued = self._ca.issue_cert(name)
        certificate, key = directory / "server.pem", directory / "server.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return certificate, key


@asynccontextmanager
async def tls_before(
    port: int, context: ssl.SSLContext, *, postgres: bool = False
) -> AsyncIterator[int]:
    """The port of a listener that ends TLS and forwards to `port`. A connection to PostgreSQL
    begins without TLS, and asks for it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):  # who leaves, leaves
            if postgres:
                assert await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST
                writer.write(b"S")
                await writer.start_tls(context)
            server_reader, server_writer = await asyncio.open_connection(LOOPBACK, port)
            await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))

    server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=None if postgres else context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
