"""The races: what goes wrong with Redis, or with the processes, while readers and writers run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    closing,
    nullcontext,
    suppress,
)
from dataclasses import dataclass
from uuid import uuid4

from app.queues import Queue
from harness.dependencies import Dependencies
from harness.queues import QueueClient, queue_client
from harness.rabbitmq import RabbitMQ
from tests.faults import illnesses
from tests.faults.keepalive import KeepAlive, Lost
from tests.faults.load import Load, Tally, prepare_load
from tests.faults.stack import Member, Stack

Inject = Callable[[Stack, Load], Awaitable[None]]


@dataclass(frozen=True)
class Scenario:
    """`beginning` is entered before the load starts; `inject` runs concurrently with the load."""

    title: str
    inject: Inject
    beginning: Callable[[Stack], AbstractAsyncContextManager[None]] = lambda _: nullcontext()


def _ill(title: str, illness: illnesses.Illness) -> Scenario:
    async def inject(stack: Stack, _: Load) -> None:
        await illness(stack)

    return Scenario(title, inject)


@asynccontextmanager
async def _with_victim(stack: Stack) -> AsyncIterator[None]:
    async with stack.joined("victim", FAIL_AT="work.after_commit") as victim:
        await victim.serve()
        yield


async def _kill_writers(stack: Stack, load: Load) -> None:
    """A process dies after each of its commits, before it invalidates or responds."""
    victim = stack.others[-1]
    while True:
        with suppress(Lost), closing(KeepAlive(victim.port)) as client:
            await load.describe_key(client, load.quiet_key)
        assert await victim.process.ends() == 137
        await asyncio.sleep(0.7)
        await victim.serve()


SCENARIOS: Mapping[str, Scenario] = {
    "healthy": _ill("healthy, 0-60 ms late", illnesses.slow),
    "reader-late": _ill("reader 0-60 ms late", illnesses.reader_slow),
    "cut": _ill("writer cut off", illnesses.cut_off),
    "swallowed": _ill("writer's commands lost", illnesses.swallowed),
    "unanswered": _ill("writer's replies lost", illnesses.unanswered),
    "resetting": _ill("connections reset", illnesses.resetting),
    "frozen": _ill("Redis SIGSTOP 0.7 s", illnesses.freezing),
    "paused": _ill("CLIENT PAUSE", illnesses.pausing),
    "refusing": _ill("reads served, writes not", illnesses.refusing_writes),
    "restart": _ill("kill -9, old snapshot", illnesses.restarting),
    "reader-frozen": _ill("writer cut, reader frozen", illnesses.reader_freezing),
    "writer-killed": Scenario("writer kill -9 after commit", _kill_writers, _with_victim),
    "failover": _ill("Redis fails over, and back", illnesses.failing_over),
    "flushed": _ill("FLUSHDB", illnesses.flushed),
    "mixed": _ill("all mixed", illnesses.mixed),
}


def messages(rabbitmq: RabbitMQ) -> Scenario:
    """A worker writes too, and is cut off from Redis every other second."""

    @asynccontextmanager
    async def with_worker(stack: Stack) -> AsyncIterator[None]:
        variables = rabbitmq.variables | {"LOG_LEVEL": "INFO"}
        async with stack.joined("worker", "-m", "app", "worker", **variables) as worker:
            worker.process.start()
            await worker.process.says("consuming")
            yield

    async def inject(stack: Stack, load: Load) -> None:
        dependencies = Dependencies("", stack.valkey, rabbitmq)
        senders = [_send_messages(dependencies, load) for _ in range(3)]
        tasks = [asyncio.ensure_future(c) for c in (_cut_now_and_then(stack.others[-1]), *senders)]
        try:
            await asyncio.gather(*tasks)
        finally:
            await illnesses.end(*tasks)

    return Scenario("writes by messages", inject, with_worker)


async def _cut_now_and_then(member: Member) -> None:
    while True:
        await asyncio.sleep(1)
        await member.link.refuse()
        await asyncio.sleep(1)
        await member.link.heal()


async def _send_messages(dependencies: Dependencies, load: Load) -> None:
    async with queue_client(dependencies) as client:
        address, replies = await client.reply_address()
        while True:
            await load.describe_by(lambda body: _send(client, address, replies, body))


async def _send(
    client: QueueClient, address: str, replies: "asyncio.Queue[bytes]", body: object
) -> bool:
    """Returns whether the message was applied. The reply comes after the ack."""
    await client.send(Queue.PRODUCT_UPDATE, body, uuid4().hex, address)
    return b'"applied"' in await replies.get()


async def race(stack: Stack, scenario: Scenario, seconds: float, readers: int = 12) -> Tally:
    load = await prepare_load(stack)
    async with scenario.beginning(stack):
        before = await stack.cache_reads("hit")
        async with load.running(readers) as tasks:
            await _inject(stack, load, scenario, seconds, tasks)
            await asyncio.sleep(0.2)
        load.tally.hits = int(await stack.cache_reads("hit") - before)
    return load.tally


async def _inject(
    stack: Stack, load: Load, scenario: Scenario, seconds: float, tasks: "list[asyncio.Task[None]]"
) -> None:
    injecting = asyncio.ensure_future(scenario.inject(stack, load))
    done, _ = await asyncio.wait(
        [injecting, *tasks], timeout=seconds, return_when=asyncio.FIRST_EXCEPTION
    )
    await illnesses.end(injecting)
    await stack.heal()
    for task in done:
        task.result()
