"""What can be wrong with Redis or with the connection to it. Each illness lasts until it is
cancelled; then `Stack.heal` repairs everything."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from redis.exceptions import RedisError

from tests.faults.proxy import Direction
from tests.faults.stack import Member, Stack

Illness = Callable[[Stack], Awaitable[None]]
_FROZEN_SECONDS = 0.7


async def forever() -> None:
    await asyncio.Event().wait()


async def slow(stack: Stack) -> None:
    """Replies and fills are late, most of them only a little: readers and writers race."""
    for member in stack.members:
        member.link.delay(longest=0.06, skew=4)
    await forever()


async def reader_slow(stack: Stack) -> None:
    """A writer has finished with Redis while a reader still waits for it."""
    stack.reader.link.delay(longest=0.03)
    await forever()


async def very_slow(stack: Stack) -> None:
    """Every command takes almost as long as our time limit."""
    for member in stack.members:
        member.link.delay(shortest=0.015, longest=0.022)
    await forever()


async def refused(stack: Stack) -> None:
    await asyncio.gather(*(member.link.refuse() for member in stack.members))
    await forever()


async def resetting(stack: Stack) -> None:
    """Connections are reset again and again, whether they are in use or not."""
    while True:
        for member in stack.members:
            member.link.cut()
        await asyncio.sleep(random.uniform(0, 0.2))


async def cut_off(stack: Stack) -> None:
    """The writer cannot reach Redis, the reader can."""
    await stack.writer.link.refuse()
    await forever()


async def swallowed(stack: Stack) -> None:
    """The writer's commands never reach Redis."""
    stack.writer.link.hang(Direction.TO_SERVER)
    await forever()


async def unanswered(stack: Stack) -> None:
    """The writer's commands reach Redis, but the replies never come back."""
    stack.writer.link.hang(Direction.TO_CLIENT)
    await forever()


async def blackholed(stack: Stack) -> None:
    for member in stack.members:
        member.link.hang()
    await forever()


async def frozen(stack: Stack) -> None:
    stack.valkey.pause()
    await forever()


async def freezing(stack: Stack) -> None:
    while True:
        stack.valkey.pause()
        await asyncio.sleep(_FROZEN_SECONDS)
        stack.valkey.resume()
        await asyncio.sleep(_FROZEN_SECONDS)


async def paused(stack: Stack) -> None:
    async with stack.redis() as redis:
        while True:
            await redis.client_pause(400)  # the next call waits until this pause is over


async def pausing(stack: Stack) -> None:
    async with stack.redis() as redis:
        while True:
            for only_writes in (False, True):
                await redis.client_pause(int(_FROZEN_SECONDS * 1000), all=not only_writes)
                await asyncio.sleep(2 * _FROZEN_SECONDS)


async def read_only(stack: Stack) -> None:
    """Redis serves reads and rejects all writes, including deletions."""
    async with stack.redis() as redis:
        await redis.config_set("min-replicas-to-write", "1")
    await forever()


async def full(stack: Stack) -> None:
    """Redis serves reads and deletions, and rejects all other writes."""
    async with stack.redis() as redis:
        await redis.config_set("maxmemory", "1mb")
    await forever()


async def refusing_writes(stack: Stack) -> None:
    async with stack.redis() as redis:
        while True:
            for name, sick, well in [
                ("min-replicas-to-write", "1", "0"),
                ("maxmemory", "1mb", "256mb"),
            ]:
                await redis.config_set(name, sick)
                await asyncio.sleep(0.6)
                await redis.config_set(name, well)
                await asyncio.sleep(0.4)


async def stopped(stack: Stack) -> None:
    stack.valkey.kill()
    await forever()


async def restarting(stack: Stack) -> None:
    """Redis is killed, and comes back with what it held half a second before."""
    while True:
        async with stack.redis() as redis:
            await redis.save()
        await asyncio.sleep(0.5)
        stack.valkey.kill()
        await stack.valkey.start()
        await asyncio.sleep(0.3)


async def flushed(stack: Stack) -> None:
    async with stack.redis() as redis:
        while True:
            await redis.flushdb()
            await asyncio.sleep(random.uniform(0, 0.2))


async def reader_freezing(stack: Stack) -> None:
    """The writer is cut off, and the reader freezes in the middle of its work."""
    await stack.writer.link.refuse()
    while True:
        await _nap(stack.reader)
        await asyncio.sleep(0.4)


async def _nap(member: Member) -> None:
    member.process.pause()
    try:
        await asyncio.sleep(0.9)
    finally:
        member.process.resume()


async def failing_over(stack: Stack) -> None:
    """A replica takes over that has missed deletions; some processes stay with the old Redis, and
    go over later; then all return to the old one, which has values from before."""
    while True:
        await stack.replicate()
        await stack.promote()
        await asyncio.sleep(random.uniform(0, 0.3))
        for server in (stack.replica, stack.valkey):
            for member in random.sample(stack.members, len(stack.members)):
                stack.lead(server, member)
                await asyncio.sleep(random.choice((0, 0.2, 1)))
            await asyncio.sleep(random.uniform(0, 1.5))


_MIXABLE = (
    slow,
    resetting,
    cut_off,
    swallowed,
    unanswered,
    freezing,
    pausing,
    refusing_writes,
    restarting,
    flushed,
    reader_freezing,
    failing_over,
)


async def mixed(stack: Stack) -> None:
    """One or two illnesses at a time, in random order, with a healthy pause between them."""
    while True:
        chosen = random.sample(_MIXABLE, random.choice((1, 1, 2)))
        with suppress(RedisError):  # one illness kept the other from talking to Redis
            await suffer(stack, random.uniform(0.3, 1.5), *chosen)
        await asyncio.sleep(random.uniform(0, 0.4))


async def suffer(stack: Stack, seconds: float, *illnesses: Illness) -> None:
    tasks = [asyncio.ensure_future(illness(stack)) for illness in illnesses]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        await end(*tasks)
        await stack.heal()


async def end(*tasks: "asyncio.Future[None]") -> None:
    """Cancels again until the tasks end: in Python 3.11 asyncio.wait_for, which redis-py uses, can
    swallow a cancellation."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.5)
    await asyncio.gather(*tasks, return_exceptions=True)
