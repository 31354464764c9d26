"""CacheStore: its time limit, its breaker, and its guard against values from before a restart."""

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis

from app.cache.store import CALL_SECONDS, CacheStore, RedisDown
from app.embedded import Valkey
from app.repositories.cache_servers import Standing
from harness.caches import Row, lone_store
from harness.dependencies import redis_address
from harness.waiting import eventually
from tests.faults.proxy import Direction, Proxy, proxy_to

pytestmark = pytest.mark.fault


@pytest.fixture
async def link(valkey: Valkey) -> AsyncIterator[Proxy]:
    async with proxy_to(valkey.port) as proxy:
        yield proxy


@pytest.fixture
def row() -> Row:
    return Row()


@pytest.fixture
async def cache(link: Proxy, row: Row) -> AsyncIterator[CacheStore]:
    address = redis_address(f"redis://{link.host}:{link.port}/0")
    cache = lone_store(address, "user", "product", row=row)
    yield cache
    await cache.close()


async def get(cache: CacheStore, key: str) -> bytes | str | None:
    """The value, or b"down" if Redis gave no reply."""
    try:
        return await cache.call(lambda redis: redis.get(key))
    except RedisDown:
        return b"down"


async def works(cache: CacheStore) -> bool:
    return await get(cache, "nothing") is None


async def test_a_reply_is_never_taken_for_that_of_another_call(
    cache: CacheStore, link: Proxy
) -> None:
    """Calls give up while their replies are still on the way."""
    async with Redis(port=link.target[1]) as redis:
        await redis.mset({f"k{number}": number for number in range(50)})
    await eventually(lambda: works(cache))

    async def ask(number: int) -> bool:
        await asyncio.sleep(random.uniform(0, 1.5))
        if number % 40 == 0:
            link.delay(longest=random.choice((0.0, 0.05, 0.1)), skew=3)
        reply = await get(cache, f"k{number % 50}")
        assert reply in (b"%d" % (number % 50), b"down")
        return reply != b"down"

    replied = await asyncio.gather(*(ask(number) for number in range(1500)))
    assert 0 < sum(replied) < len(replied)
    await link.heal()
    await eventually(lambda: works(cache))


@pytest.mark.parametrize("direction", [Direction.TO_SERVER, Direction.TO_CLIENT])
async def test_a_call_times_out_and_the_breaker_spares_the_next_ones(
    direction: Direction, cache: CacheStore, link: Proxy
) -> None:
    await eventually(lambda: works(cache))
    link.hang(direction)
    began = time.monotonic()
    assert set(await asyncio.gather(*(get(cache, "k") for _ in range(100)))) == {b"down"}
    assert time.monotonic() - began < 50 * CALL_SECONDS  # and not a hundred times
    assert cache.healthy  # a hundred simultaneous failures count as one
    await get(cache, "k")
    await get(cache, "k")
    assert not cache.healthy
    connections, began = link.connections, time.monotonic()
    for _ in range(1000):
        assert await get(cache, "k") == b"down"
    assert time.monotonic() - began < 500 * CALL_SECONDS
    assert link.connections <= connections + 1  # one new attempt now and then
    await link.heal()
    await eventually(lambda: works(cache))
    assert cache.healthy


async def test_a_redis_is_well_that_has_just_been_taken_over(
    cache: CacheStore, row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at the start of a busy process: the call is over, and so is what it waited for."""
    confirm = row.confirm

    async def busy(generation: int, purged: Sequence[str]) -> Standing | None:
        time.sleep(2 * CALL_SECONDS)
        return await confirm(generation, purged)

    monkeypatch.setattr(row, "confirm", busy)
    await cache.ping()


async def test_after_a_restart_no_old_value_is_read(
    cache: CacheStore, link: Proxy, valkey: Valkey
) -> None:
    """Not even if connections are given up again and again before the guard has checked them."""
    await eventually(lambda: works(cache))
    async with Redis(port=valkey.port) as redis:
        await redis.mset({"user:1": "old", "product:1": "old", "lease:user:1": "old", "mine": "x"})
    await valkey.stop()
    await valkey.start()
    link.delay(shortest=0.01, longest=0.05)
    for _ in range(20):
        assert set(await asyncio.gather(*(get(cache, "user:1") for _ in range(5)))) <= {
            None,
            b"down",
        }
    await link.heal()
    await eventually(lambda: works(cache))
    async with Redis(port=valkey.port) as redis:
        assert await redis.keys() == [b"mine"]


async def test_a_long_purge_blocks_no_caller(
    cache: CacheStore, link: Proxy, valkey: Valkey, row: Row
) -> None:
    async with Redis(port=valkey.port) as redis:
        for kind in ("user", "product", "foreign"):
            await redis.mset({f"{kind}:{number}": "old" for number in range(60_000)})
    slowest = 0.0
    while not (row.standing and row.standing.purged):
        began = time.monotonic()
        assert await get(cache, "user:1") in (None, b"down")
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.01)
    assert slowest < CALL_SECONDS + 0.1
    async with Redis(port=valkey.port) as redis:
        assert await redis.dbsize() == 60_000
    await eventually(lambda: works(cache))
    assert link.connections < 200


async def test_a_redis_that_cannot_be_purged_is_not_used(cache: CacheStore, valkey: Valkey) -> None:
    async with Redis(port=valkey.port) as redis:
        await redis.set("user:1", "old")
        await redis.config_set("min-replicas-to-write", "1")
        try:

            async def is_given_up() -> bool:
                assert await get(cache, "user:1") == b"down"
                return not cache.healthy

            await eventually(is_given_up)
        finally:
            await redis.config_set("min-replicas-to-write", "0")
        await eventually(lambda: works(cache))
        assert not await redis.exists("user:1")


async def test_a_full_redis_is_purged_and_used(cache: CacheStore, valkey: Valkey) -> None:
    async with Redis(port=valkey.port) as redis:
        await redis.set("user:1", "old")
        await redis.config_set("maxmemory", "1mb")
        try:
            await eventually(lambda: works(cache))
            assert not await redis.exists("user:1")
        finally:
            await redis.config_set("maxmemory", "256mb")


async def test_a_purge_that_fails_after_its_caller_has_left_raises_nothing(
    cache: CacheStore, link: Proxy
) -> None:
    complaints: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        link.delay(shortest=0.03, longest=0.03)
        assert await get(cache, "user:1") == b"down"
        await link.refuse()
        await asyncio.sleep(0.3)
        await link.heal()
        await eventually(lambda: works(cache))  # by another purge
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert not complaints


async def test_connections_that_break_between_two_calls_fail_neither(
    cache: CacheStore, valkey: Valkey
) -> None:
    """A call has 70 ms. A busy machine may take longer, now and then."""
    await eventually(lambda: works(cache))

    async def closed_and_works() -> bool:
        async with Redis(port=valkey.port) as redis:
            await redis.client_kill_filter(_type="normal", skipme=True)
        return await works(cache)

    await eventually(closed_and_works)
