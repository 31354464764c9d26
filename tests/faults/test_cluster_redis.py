"""Redis fails over to a replica that has missed the last deletions, while some processes still
reach the old one. The address stays the same: each process has a proxy in front of Redis."""

import time
from collections.abc import AsyncIterator
from contextlib import closing

import pytest

from harness.waiting import eventually
from tests.faults.keepalive import KeepAlive
from tests.faults.load import Load
from tests.faults.stack import Member, Stack, follows

pytestmark = pytest.mark.fault


class Shop:
    """One cached user of the stack, whose description counts up."""

    def __init__(self, stack: Stack, path: str) -> None:
        self._stack = stack
        self.path = path
        self.version = 0

    @property
    def key(self) -> str:
        return self.path.replace("/users/", "user:")

    async def write(self) -> None:
        self.version += 1
        with closing(KeepAlive(self._stack.writer.port)) as client:
            body = {"description": f"{self.version}"}
            assert (await client.send("PUT", self.path, body)).status == 200

    async def read(self, member: Member) -> int:
        with closing(KeepAlive(member.port)) as client:
            response = await client.get(self.path)
        assert response.status == 200
        return int(response.json["description"])

    async def nothing_is_stale(self) -> None:
        """Both read the newest, again and again while it changes."""
        for _ in range(10):
            for member in self._stack.members:
                assert await self.read(member) == self.version, member.process.name
            await self.write()

    async def is_cached_by(self, *members: Member) -> float:
        """Returns after how many seconds."""
        began = time.monotonic()
        for member in members:
            await member.wait_cached(self.path)
        return time.monotonic() - began


@pytest.fixture
async def shop(stack: Stack, load: Load) -> AsyncIterator[Shop]:
    """Its value is in the replica too, and stays there: from then on the replica is on its own."""
    shop = Shop(stack, load.keys[1].path)
    await shop.write()
    await shop.is_cached_by(stack.reader, stack.writer)
    await stack.replicate()
    await stack.promote()
    yield shop
    stack.lead(stack.valkey)
    await shop.is_cached_by(stack.reader, stack.writer)


async def test_a_replica_that_has_missed_a_deletion_takes_over(stack: Stack, shop: Shop) -> None:
    await shop.write()
    async with stack.redis(stack.replica) as replica:
        assert await replica.exists(shop.key)
    stack.lead(stack.replica)
    await shop.nothing_is_stale()
    await shop.is_cached_by(stack.reader, stack.writer)


async def test_a_reader_stays_with_the_old_one(stack: Stack, shop: Shop) -> None:
    stack.lead(stack.replica, stack.writer)
    await shop.nothing_is_stale()
    await shop.is_cached_by(stack.writer)
    await shop.nothing_is_stale()


async def test_a_writer_stays_with_the_old_one(stack: Stack, shop: Shop) -> None:
    stack.lead(stack.replica, stack.reader)
    await shop.nothing_is_stale()
    await shop.is_cached_by(stack.reader)
    await shop.nothing_is_stale()


async def test_the_old_one_is_used_again(stack: Stack, shop: Shop) -> None:
    stack.lead(stack.replica)
    print(f"\ncached again after {await shop.is_cached_by(stack.reader, stack.writer):.1f} s")
    await shop.write()
    async with stack.redis() as old:
        assert await old.exists(shop.key)
    stack.lead(stack.valkey)
    await shop.nothing_is_stale()


async def test_the_old_one_follows_the_new_one_and_takes_over_again(
    stack: Stack, shop: Shop
) -> None:
    """It has the same run id as before, and other data."""
    async with stack.redis() as old, stack.redis(stack.replica) as new:
        await shop.write()
        await old.replicaof(stack.replica.host, stack.replica.port)
        await eventually(lambda: follows(old, new))
        await old.replicaof("NO", "ONE")
        assert await old.exists(shop.key)
    stack.lead(stack.valkey)
    await shop.nothing_is_stale()
