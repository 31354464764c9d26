"""One write for all that a turn of the event loop writes, nothing held back longer, nothing lost."""

import asyncio

import pytest

from app.rest.asgi.transport import CorkedTransport


class Wire(asyncio.Transport):
    """What has been done to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.seen: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.seen.append(bytes(data))

    def close(self) -> None:
        self.seen.append("closed")


@pytest.fixture(name="wire")
def _wire() -> Wire:
    return Wire()


async def test_the_writes_of_one_turn_are_one(wire: Wire) -> None:
    transport = CorkedTransport(wire)
    for turn in (b"1", b"2"):
        transport.write(b"head" + turn)
        transport.write(b"body" + turn)
        await asyncio.sleep(0)
    assert wire.seen == [b"head1body1", b"head2body2"]
    assert transport.get_extra_info("peername") == ("127.0.0.1", 1)


async def test_what_is_written_goes_out_before_the_end(wire: Wire) -> None:
    transport = CorkedTransport(wire)
    transport.write(b"last words")
    transport.close()
    await asyncio.sleep(0)
    assert wire.seen == [b"last words", "closed"]


async def test_much_goes_out_at_once(wire: Wire) -> None:
    """A writer that never pauses would else fill the memory."""
    transport = CorkedTransport(wire)
    transport.write(b"head")
    transport.write(b"x" * 100_000)
    assert [len(data) for data in wire.seen] == [100_004]
    transport.write(b"y")
    await asyncio.sleep(0)
    assert wire.seen[1:] == [b"y"]
