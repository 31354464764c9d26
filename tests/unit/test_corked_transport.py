"""All writes of one event loop iteration become one; none waits longer and none is lost."""

import asyncio
from typing import Any

import pytest
import uvloop

from app.rest.asgi.protocol import CorkedTransport


class Wire(asyncio.Transport):
    """Records the calls."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.seen: list[bytes | str] = []

    def is_closing(self) -> bool:
        return "closed" in self.seen

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.seen.append(bytes(data))

    def close(self) -> None:
        self.seen.append("closed")


@pytest.fixture(name="wire")
def _wire() -> Wire:
    return Wire()


async def test_the_writes_of_one_iteration_are_one(wire: Wire) -> None:
    transport = CorkedTransport(wire)
    for number in (b"1", b"2"):
        transport.write(b"head" + number)
        transport.write(b"body" + number)
        await asyncio.sleep(0)
    assert wire.seen == [b"head1body1", b"head2body2"]
    assert transport.get_extra_info("peername") == ("127.0.0.1", 1)


async def test_a_whole_response_goes_out_at_once_with_what_waits(wire: Wire) -> None:
    transport = CorkedTransport(wire)
    transport.write_whole(b"first")
    transport.write(b"second")
    transport.write_whole(b"third")
    assert wire.seen == [b"first", b"secondthird"]
    await asyncio.sleep(0)
    assert wire.seen == [b"first", b"secondthird"]


async def test_closing_writes_what_waits_first(wire: Wire) -> None:
    transport = CorkedTransport(wire)
    transport.write(b"last words")
    transport.close()
    await asyncio.sleep(0)
    assert wire.seen == [b"last words", "closed"]


async def test_a_large_write_goes_out_at_once(wire: Wire) -> None:
    """Otherwise a writer that never pauses would fill the memory."""
    transport = CorkedTransport(wire)
    transport.write(b"head")
    transport.write(b"x" * 100_000)
    assert [len(data) for data in wire.seen] == [100_004]
    transport.write(b"y")
    await asyncio.sleep(0)
    assert wire.seen[1:] == [b"y"]


def test_a_client_that_goes_before_the_write_leaves_no_error() -> None:
    """uvloop's transport raises, and nobody awaits the callback that writes."""
    errors: list[dict[str, Any]] = []

    async def answer_and_go(close: str) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            real, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
            transport = CorkedTransport(real)
            real.abort()
            transport.write_whole(b"a response")
            transport.write(b"another")
            if close == "closed":  # as uvicorn does when it hears that the connection is lost
                transport.close()
            await asyncio.sleep(0.01)

    for close in ("left", "closed"):
        uvloop.run(answer_and_go(close))
    assert not errors
