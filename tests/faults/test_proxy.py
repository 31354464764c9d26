"""The proxy itself: a fault test is only as good as the proxy that injects its faults."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from app.embedded.ports import LOOPBACK
from tests.faults.proxy import Direction, Proxy, proxy_to

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy in front of a server that echoes everything."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while data := await reader.read(1000):
                writer.write(data)

    async with await asyncio.start_server(echo, LOOPBACK, 0) as server:
        async with proxy_to(server.sockets[0].getsockname()[1]) as proxy:
            yield proxy


@pytest.fixture
async def streams(proxy: Proxy) -> AsyncIterator[Streams]:
    streams = await asyncio.open_connection(proxy.host, proxy.port)
    yield streams
    streams[1].transport.abort()


async def echoed(streams: Streams, data: bytes, seconds: float = 2) -> bytes:
    streams[1].write(data)
    return await asyncio.wait_for(streams[0].read(1000), seconds)


async def test_delayed_data_passes_in_order(proxy: Proxy, streams: Streams) -> None:
    proxy.delay(longest=0.02)
    for number in range(100):
        streams[1].write(b"%03d" % number)
        await asyncio.sleep(0.001)
    received = await asyncio.wait_for(streams[0].readexactly(300), 5)
    assert received == b"".join(b"%03d" % number for number in range(100))
    proxy.delay(shortest=0.1, longest=0.1)
    began = time.monotonic()
    assert await echoed(streams, b"x") == b"x"
    assert 0.19 < time.monotonic() - began < 1


@pytest.mark.parametrize("direction", [Direction.TO_SERVER, Direction.TO_CLIENT, Direction.BOTH])
async def test_what_hangs_arrives_when_the_fault_ends(
    direction: Direction, proxy: Proxy, streams: Streams
) -> None:
    proxy.hang(direction)
    fresh = await asyncio.open_connection(proxy.host, proxy.port)
    for pair in (streams, fresh):
        with pytest.raises(TimeoutError):
            await echoed(pair, b"x", seconds=0.05)
    await proxy.heal()
    assert await asyncio.wait_for(streams[0].read(10), 2) == b"x"
    assert await asyncio.wait_for(fresh[0].read(10), 2) == b"x"
    fresh[1].transport.abort()


async def test_a_cut_breaks_connections_and_a_refusal_prevents_new_ones(
    proxy: Proxy, streams: Streams
) -> None:
    assert await echoed(streams, b"x") == b"x"
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await echoed(streams, b"x")
    again = await asyncio.open_connection(proxy.host, proxy.port)
    assert await echoed(again, b"x") == b"x"
    await proxy.refuse()
    with pytest.raises(ConnectionResetError):
        await echoed(again, b"x")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(proxy.host, proxy.port)
    await proxy.heal()
    healed = await asyncio.open_connection(proxy.host, proxy.port)
    assert await echoed(healed, b"x") == b"x"
    healed[1].transport.abort()


async def test_a_server_that_does_not_listen_refuses_through_the_proxy_too(proxy: Proxy) -> None:
    proxy.target = (proxy.host, 9)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    with closing(writer), pytest.raises(ConnectionResetError):
        assert await reader.read(1)
