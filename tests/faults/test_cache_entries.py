"""What may be stored in Redis, and how readers deal with it."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import pytest
from redis.asyncio import Redis

from harness.waiting import eventually
from tests.faults.keepalive import KeepAlive
from tests.faults.load import Load
from tests.faults.stack import Stack

pytestmark = pytest.mark.fault

_DAMAGES: dict[str, Any] = {
    "cut off": b'{"x',
    "a list": b"[]",
    "nothing": b"",
    "only the id": b'{"id":%d}',
    "a field missing": b'{"id":%d,"username":"x","email":"x@example.com","description":"y"}',
    "a field too many": b'{"id":%d,"more":1,%s',
    "another user": b'{"id":99%d,%s',
    "damaged inside": b'{"id":%d,"username":"x"x}',
    "not text": b'{"id":%d,"username":"\xff\xfe"}',
    "too deep": b"[" * 100_000,
}


@pytest.fixture
async def redis(stack: Stack, load: Load) -> AsyncIterator[Redis]:
    """A Redis without cached values, in use by both processes."""
    async with stack.redis() as redis:
        for web in (stack.reader, stack.writer):
            await web.wait_cached(load.quiet_key.path)
        await redis.delete(*[key async for key in redis.scan_iter("[up][sr][eo][rd]*:*")])
        yield redis


async def _read(stack: Stack, path: str) -> Any:
    with closing(KeepAlive(stack.reader.port)) as client:
        response = await client.get(path)
    assert response.status == 200
    return response.json


async def _stored(redis: Redis, key: str) -> bytes:
    value = await redis.get(key)
    assert isinstance(value, bytes)
    return value


@pytest.mark.parametrize("name", _DAMAGES)
async def test_a_damaged_value_is_a_miss_and_is_repaired(
    name: str, stack: Stack, load: Load, redis: Redis
) -> None:
    path, key = load.quiet_key.path, load.quiet_key.name
    expected = await _read(stack, path)
    good = await _stored(redis, key)
    damage = _DAMAGES[name].replace(b"%d", b"%d" % load.quiet_key.id)
    await redis.set(key, damage.replace(b"%s", good.partition(b",")[2]))
    assert await _read(stack, path) == expected
    assert await _stored(redis, key) == good
    assert 3590 <= await redis.ttl(key) <= 3600


async def test_a_key_of_another_type_is_a_miss_and_is_repaired(
    stack: Stack, load: Load, redis: Redis
) -> None:
    path, key = load.quiet_key.path, load.quiet_key.name
    await redis.lpush(key, "x")
    assert (await _read(stack, path))["id"] == load.quiet_key.id
    assert json.loads(await _stored(redis, key))["id"] == load.quiet_key.id


async def test_a_value_without_a_row_is_removed(stack: Stack, redis: Redis) -> None:
    await redis.set("user:999999", "{}")
    with closing(KeepAlive(stack.reader.port)) as client:
        assert (await client.get("/users/999999")).status == 404
    assert not await redis.exists("user:999999", "lease:user:999999")


async def test_two_hundred_readers_of_a_cold_key_load_it_once_or_twice(
    stack: Stack, load: Load, redis: Redis
) -> None:
    """Where the machine is too busy for them to wait for the one who loads it: at another time."""

    async def load_it_once_or_twice() -> bool:
        await redis.delete(load.quiet_key.name)
        return 1 <= await _loads(stack, load) <= 2

    await eventually(load_it_once_or_twice)
    assert await redis.exists(load.quiet_key.name)


async def _loads(stack: Stack, load: Load) -> float:
    """How often two hundred readers together load the key."""
    with ExitStack() as closed:
        ports = [stack.reader.port, stack.writer.port] * 100
        clients = [closed.enter_context(closing(KeepAlive(port))) for port in ports]
        await asyncio.gather(*(client.get("/health/live") for client in clients))
        before = await stack.cache_reads("miss")
        responses = await asyncio.gather(*(client.get(load.quiet_key.path) for client in clients))
    assert {response.status for response in responses} == {200}
    assert len({response.body for response in responses}) == 1
    return await stack.cache_reads("miss") - before


async def test_every_key_is_a_plain_value_and_expires(
    stack: Stack, load: Load, redis: Redis
) -> None:
    for key in load.keys:
        await _read(stack, key.path)
    await _read(stack, "/health/ready")
    keys = {key.decode(): await redis.ttl(key) async for key in redis.scan_iter()}
    for key in load.keys:
        longest = 3600 if key.sold is None else 600
        assert longest - 10 <= keys.pop(key.name) <= longest
        assert json.loads(await _stored(redis, key.name)) == await _read(stack, key.path)
    assert keys.pop("cache:probe") <= 1
    assert all(name.startswith("lease:") and ttl <= 3 for name, ttl in keys.items())


async def test_clients_that_disconnect_do_not_affect_the_next_ones(
    stack: Stack, load: Load, redis: Redis
) -> None:
    before = stack.reader.process.output
    await asyncio.gather(*(_leave(stack, load) for _ in range(300)))
    expected = {key.path: await _read(stack, key.path) for key in load.keys}
    for path in list(expected) * 20:
        assert await _read(stack, path) == expected[path]
    # At this level there are only warnings and errors.
    assert stack.reader.process.output.removeprefix(before) == ""
    connections = [client["addr"] for client in await redis.client_list()]
    assert len(connections) <= 2 * 16 + 1
    await eventually(lambda: _no_lease_is_left(redis))


async def _leave(stack: Stack, load: Load) -> None:
    with closing(KeepAlive(stack.reader.port, limit=random.uniform(0.001, 0.05))) as client:
        with suppress(Exception):
            await client.get(random.choice(load.keys).path)


async def _no_lease_is_left(redis: Redis) -> bool:
    return not [key async for key in redis.scan_iter("lease:*")]
