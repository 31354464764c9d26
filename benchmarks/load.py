"""The load generator, in a process of its own: `python -m benchmarks.load JSON`.

A closed loop: each connection sends its next request once it has received the response to the
last one. `{n}` in path and body becomes a number that cycles from `first` to `first + count - 1`.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import uvloop

from benchmarks.usage import Meter

_HEAD_ENDS = b"\r\n\r\n"
_LENGTH = b"content-length: "


@dataclass(frozen=True)
class Load:
    path: str
    method: str = "GET"
    body: str = ""
    first: int = 1
    count: int = 1
    connections: int = 64
    # More than can be served: whatever is not a success counts as refused.
    is_flood: bool = False

    def requests(self) -> Iterator[bytes]:
        for n in itertools.count():
            number = str(self.first + n % self.count)
            body = self.body.replace("{n}", number).encode()
            content = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            line = f"{self.method} {self.path.replace('{n}', number)} HTTP/1.1\r\n"
            head = f"{line}host: localhost\r\n{content if body else ''}\r\n"
            yield head.encode() + body


class Client(asyncio.Protocol):
    def __init__(self, run: "Run") -> None:
        self._run = run
        self._received = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it

    def send(self) -> None:
        assert self._transport
        self._sent = time.perf_counter()
        self._transport.write(next(self._run.requests))

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not _is_complete(self._received):
            return
        status, self._received = self._received[9:12].decode(), b""
        self._run.received(status, self._sent)
        if self._run.goes_on:
            self.send()
        else:
            self._run.end(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.end(self, lost=True)

    def close(self) -> None:
        if self._transport:
            self._transport.abort()


def _is_complete(response: bytes) -> bool:
    head, separator, body = response.partition(_HEAD_ENDS)
    if not separator:
        return False
    _, found, rest = head.lower().partition(_LENGTH)
    if not found:  # chunked
        return body.endswith(b"0\r\n\r\n")
    return len(body) >= int(rest.partition(b"\r\n")[0])


class Run:
    def __init__(self, load: Load, seconds: float) -> None:
        self.requests = load.requests()
        self._seconds = seconds
        self._statuses: Counter[str] = Counter()
        self._waits: list[float] = []  # for a success
        self._in_time = 0
        self._clients: list[Client] = []
        self._busy: set[Client] = set()
        self._done = asyncio.Event()
        self._began = self._ended = 0.0
        self._lost = 0

    @property
    def goes_on(self) -> bool:
        return self._ended - self._began < self._seconds

    def received(self, status: str, sent: float) -> None:
        self._statuses[status] += 1
        self._ended = time.perf_counter()
        if status.startswith("2"):
            self._waits.append(self._ended - sent)
            self._in_time += self.goes_on

    def end(self, client: Client, lost: bool = False) -> None:
        if client in self._busy:
            self._lost += lost
            self._busy.remove(client)
            if not self._busy:
                self._done.set()

    async def measure(self, ports: Sequence[int], connections: int) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        for number in range(connections):
            port = ports[number % len(ports)]
            _, client = await loop.create_connection(lambda: Client(self), "127.0.0.1", port)
            self._clients.append(client)
        self._busy.update(self._clients)
        print("connected", flush=True)
        self._began = time.perf_counter()
        for client in self._clients:
            client.send()
        await self._done.wait()
        seconds = self._ended - self._began
        p99 = sorted(self._waits)[int(len(self._waits) * 0.99)] if self._waits else 0.0
        return {
            "statuses": self._statuses,
            "seconds": seconds,
            "lost": self._lost,
            "p99": p99,
            "goodput": self._in_time / self._seconds,
        }

    def close(self) -> None:
        for client in self._clients:
            client.close()


@dataclass(frozen=True)
class Responses:
    statuses: dict[str, int]
    seconds: float
    lost: int
    p99: float  # seconds, of the successes
    goodput: float  # successes per second, while requests are sent
    cpu: float  # seconds of the processes asked for

    @property
    def total(self) -> int:
        return sum(self.statuses.values())

    @property
    def successes(self) -> int:
        return sum(n for status, n in self.statuses.items() if status.startswith("2"))


async def generate(
    load: Load, ports: Sequence[int], seconds: float, pids: Sequence[int] = ()
) -> Responses:
    """Run the generator in a process of its own. `pids`: processes whose CPU time is wanted, from
    when all connections are open to the last response: the closing of many takes time too.

    Raises AssertionError at a lost connection, or any status but 2xx, unless it is a flood: errors
    are fast to serve, so they would make the figures look better.
    """
    task = json.dumps({"load": asdict(load), "ports": ports, "seconds": seconds})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.load", task), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    async with asyncio.timeout(seconds + 60):
        await process.stdout.readline()
        meter = Meter(*pids)
        output = await process.stdout.readline()
        cpu = meter.seconds
        await process.wait()
    assert process.returncode == 0, f"the load generator failed at {load.method} {load.path}"
    responses = Responses(**json.loads(output), cpu=cpu)
    has_failed = responses.successes < responses.total or responses.lost
    assert load.is_flood or not has_failed, f"{load.method} {load.path}: {responses}"
    return responses


async def _main(task: dict[str, Any]) -> None:
    load = Load(**task["load"])
    run = Run(load, task["seconds"])
    print(json.dumps(await run.measure(task["ports"], load.connections)), flush=True)
    run.close()


if __name__ == "__main__":
    uvloop.run(_main(json.loads(sys.argv[1])))
