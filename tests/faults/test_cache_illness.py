"""A sick Redis slows reads and writes a little, fails neither, and leaves the service ready."""

import asyncio
from contextlib import closing

import pytest

from harness.waiting import eventually
from tests.faults.illnesses import suffer
from tests.faults.keepalive import KeepAlive
from tests.faults.latency import ILLNESSES, Latencies, measure
from tests.faults.load import Load
from tests.faults.stack import Stack

pytestmark = pytest.mark.fault

_READ_SECONDS, _WRITE_SECONDS = 0.25, 1.0
# With these Redis may be healthy at the moment when readiness is asked for.
_AT_TIMES = {"resetting", "freezing", "very slow", "restarting"}


@pytest.mark.parametrize("name", ILLNESSES)
async def test_reads_and_writes_go_on(name: str, stack: Stack, load: Load) -> None:
    for attempt in range(3):  # a busy machine may stop all of us for as long
        found = await measure(stack, load, ILLNESSES[name], seconds=1.2)
        if _is_quick(found) or attempt == 2:
            break
    assert _is_quick(found), found
    assert set(found.statuses) == {200}
    assert found.readiness == 200
    assert found.redis == "degraded" or name in _AT_TIMES


def _is_quick(found: Latencies) -> bool:
    return (
        found.read - found.bare_read <= _READ_SECONDS
        and found.write - found.bare_write <= _WRITE_SECONDS
    )


async def test_the_cache_is_used_again_after_redis_recovers(stack: Stack, load: Load) -> None:
    await suffer(stack, 0.5, ILLNESSES["stopped"])
    await stack.writer.wait_cached(load.quiet_key.path)

    async def ready() -> bool:
        with closing(KeepAlive(stack.writer.port)) as client:
            response = await client.get("/health/ready")
        return bool(response.json["parts"]["redis"] == "ok")

    await eventually(ready)


@pytest.mark.parametrize(
    "reply",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$x\r\n", b"*-7\r\n", b"\x00\xff" * 50, b""],
    ids=["http", "length", "count", "bytes", "nothing"],
)
async def test_something_else_answers_on_the_redis_port(
    reply: bytes, stack: Stack, load: Load
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            if await reader.read(100):
                writer.write(reply)

    link, port = stack.writer.link, stack.valkey.port
    async with await asyncio.start_server(talk, link.host, 0) as impostor:
        link.target = impostor.sockets[0].getsockname()[:2]
        link.cut()
        try:
            with closing(KeepAlive(stack.writer.port)) as client:
                for path in [load.quiet_key.path] * 8:
                    assert (await client.get(path)).status == 200
                changed = await client.send("PUT", load.quiet_key.path, {"description": "0"})
                assert changed.status == 200
        finally:
            link.target = (link.host, port)
            link.cut()
