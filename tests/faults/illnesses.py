"""What can go wrong with Redis or with the connection to it. Each illness lasts until it is
cancelled; then `Stack.heal` ends its effects."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from redis.exceptions import RedisError

from tests.faults.proxy import Way
from tests.faults.stack import Member, Stack

Illness = Callable[[Stack], Awaitable[None]]
_FROZEN_SECONDS = 0.7


async def for_ever() -> None:
    await asyncio.Event().wait()


async def slow(stack: Stack) -> None:
    """Replies and fills are late, most of them a little: reader and writer race."""
    for member in stack.members:
        member.link.delay(longest=0.06, skew=4)
    await for_ever()


async def reader_slow(stack: Stack) -> None:
    """The writer's commands finish while a reader still waits for its own."""
    stack.reader.link.delay(longest=0.03)
    await for_ever()


async def very_slow(stack: Stack) -> None:
    """Every command takes nearly as long as its time limit."""
    for member in stack.members:
        member.link.delay(shortest=0.015, longest=0.022)
    await for_ever()


async def refused(stack: Stack) -> None:
    await asyncio.gather(*(member.link.refuse() for member in stack.members))
    await for_ever()


async def resetting(stack: Stack) -> None:
    """Connections are reset all the time, whether they are in use or not."""
    while True:
        for member in stack.members:
            member.link.cut()
        await asyncio.sleep(random.uniform(0, 0.2))


async def cut_off(stack: Stack) -> None:
    """The writer cannot reach Redis, the reader can."""
    await stack.writer.link.refuse()
    await for_ever()


async def swallowed(stack: Stack) -> None:
    """What the writer sends is lost on the way."""
    stack.writer.link.hang(Way.TO_SERVER)
    await for_ever()


async def unanswered(stack: Stack) -> None:
    """The writer's commands arrive, but the replies are lost."""
    stack.writer.link.hang(Way.TO_CLIENT)
    await for_ever()


async def blackholed(stack: Stack) -> None:
    for member in stack.members:
        member.link.hang()
    await for_ever()


async def frozen(stack: Stack) -> None:
    stack.valkey.pause()
    await for_ever()


async def freezing(stack: Stack) -> None:
    while True:
        stack.valkey.pause()
        await asyncio.sleep(_FROZEN_SECONDS)
        stack.valkey.resume()
        await asyncio.sleep(_FROZEN_SECONDS)


async def paused(stack: Stack) -> None:
    async with stack.redis() as redis:
        while True:
            await redis.client_pause(400)  # the next pause begins when this one ends


async def pausing(stack: Stack) -> None:
    async with stack.redis() as redis:
        while True:
            for only_writes in (False, True):
                await redis.client_pause(int(_FROZEN_SECONDS * 1000), all=not only_writes)
                await asyncio.sleep(2 * _FROZEN_SECONDS)


async def read_only(stack: Stack) -> None:
    """Reads are served, every write is refused, deletions too."""
    async with stack.redis() as redis:
        await redis.config_set("min-replicas-to-write", "1")
    await for_ever()


async def full(stack: Stack) -> None:
    """Deletions are still served, nothing else that writes."""
    async with stack.redis() as redis:
        await redis.config_set("maxmemory", "1mb")
    await for_ever()


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
    await for_ever()


async def restarting(stack: Stack) -> None:
    """Redis is killed, and comes back with the data of half a second earlier."""
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
    """The writer is cut off, and the reader is frozen in the middle of a read."""
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
)


async def mixed(stack: Stack) -> None:
    """One or two illnesses at a time, in random order, with a moment of health between them."""
    while True:
        chosen = random.sample(_MIXABLE, random.choice((1, 1, 2)))
        with suppress(RedisError):  # one illness kept the other from being injected
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
    """Cancel again and again: in Python 3.11 asyncio.wait_for, which redis-py uses, can swallow a
    cancellation."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.5)
    await asyncio.gather(*tasks, return_exceptions=True)
