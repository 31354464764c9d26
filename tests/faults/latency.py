"""How much a sick Redis slows down reads and writes: `python -m tests.faults.latency`."""

import argparse
import asyncio
import random
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import uvloop

from tests.faults import illnesses
from tests.faults.illnesses import Illness, suffer
from tests.faults.keepalive import KeepAlive
from tests.faults.load import Load, prepare_load
from tests.faults.race import stack_with
from tests.faults.stack import Stack

ILLNESSES: dict[str, Illness] = {
    "stopped": illnesses.stopped,
    "refused": illnesses.refused,
    "resetting": illnesses.resetting,
    "frozen": illnesses.frozen,
    "freezing": illnesses.freezing,
    "CLIENT PAUSE": illnesses.paused,
    "blackholed": illnesses.blackholed,
    "commands lost": illnesses.swallowed,
    "replies lost": illnesses.unanswered,
    "very slow": illnesses.very_slow,
    "read-only": illnesses.read_only,
    "full": illnesses.full,
    "restarting": illnesses.restarting,
}
_CONNECTIONS = {"read": 8, "bare_read": 1, "write": 3, "bare_write": 1}


@dataclass
class Latencies:
    """The slowest request of each kind, in seconds. The `bare` kinds never use Redis, so they show
    what the machine itself adds."""

    read: float = 0.0
    bare_read: float = 0.0
    write: float = 0.0
    bare_write: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    readiness: int = 0
    redis: str = ""


def _request(kind: str, load: Load) -> tuple[str, str, Any]:
    key = random.choice(load.keys).path
    return {
        "read": ("GET", key, None),
        "bare_read": ("GET", "/users?count=1", None),
        "write": ("PUT", key, {"description": "0"}),
        "bare_write": ("PUT", load.address, {"city": "Bonn"}),
    }[kind]


async def measure(stack: Stack, load: Load, illness: Illness, seconds: float) -> Latencies:
    """All requests go to `stack.writer`, and the cache is empty at first."""
    found = Latencies()
    async with stack.redis() as redis:
        await redis.delete(*(key.name for key in load.keys))
    sick = asyncio.ensure_future(suffer(stack, seconds, illness))
    await asyncio.sleep(0.01)
    clients = [kind for kind, number in _CONNECTIONS.items() for _ in range(number)]
    await asyncio.gather(
        sick,
        _ask_readiness(stack, found, seconds - 0.2),
        *(_repeat(kind, stack, load, found, sick) for kind in clients),
    )
    return found


async def _repeat(
    kind: str, stack: Stack, load: Load, found: Latencies, sick: "asyncio.Future[None]"
) -> None:
    with closing(KeepAlive(stack.writer.port)) as client:
        while not sick.done():
            response = await client.send(*_request(kind, load))
            setattr(found, kind, max(getattr(found, kind), response.seconds))
            found.statuses[response.status] += 1
            await asyncio.sleep(random.uniform(0, 0.01))


async def _ask_readiness(stack: Stack, found: Latencies, at: float) -> None:
    await asyncio.sleep(at)
    with closing(KeepAlive(stack.writer.port)) as client:
        response = await client.get("/health/ready")
    found.readiness, found.redis = response.status, response.json["parts"]["redis"]


def row(name: str, found: Latencies) -> str:
    times = (found.read, found.bare_read, found.write, found.bare_write)
    columns = "".join(f"{seconds:>12.3f}" for seconds in times)
    return f"{name:<16}{columns}{found.readiness:>7} {found.redis:<10}{dict(found.statuses)}"


async def _main(seconds: float) -> None:
    print(
        f"{'illness':<16}{'read':>12}{'bare read':>12}{'write':>12}{'bare write':>12}  ready redis"
    )
    async with stack_with("full") as stack:
        load = await prepare_load(stack)
        for name, illness in ILLNESSES.items():
            print(row(name, await measure(stack, load, illness, seconds)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="for each illness")
    uvloop.run(_main(parser.parse_args().seconds))
