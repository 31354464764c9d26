"""More clients than the service can serve, all of them in a hurry: over real connections.

No test here depends on how fast anything is; benchmarks/rows/overload.py measures that."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from app.container import Container
from app.embedded.ports import LOOPBACK
from app.queues import Queue
from harness.databases import connected
from harness.invariants import check_invariants
from harness.queues import queue_client
from harness.shop import Shop
from harness.waiting import eventually
from tests.faults.soak.one_process import OneProcess
from tests.faults.support.system import System

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = pytest.mark.fault


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: Any


class Client:
    """A connection that is kept alive. httpx would be the bottleneck."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def opened(cls, port: int) -> Self:
        return cls(*await asyncio.open_connection(LOOPBACK, port))

    async def request(self, method: str, path: str, body: Any = None, key: str = "") -> Response:
        content = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: localhost"]
        lines += ["content-type: application/json", f"content-length: {len(content)}"]
        lines += [f"idempotency-key: {key}"] if key else []
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in head)}
        received = await self._reader.readexactly(int(headers["content-length"]))
        return Response(int(head[0].split()[1]), headers, json.loads(received))

    def close(self) -> None:
        self._writer.transport.abort()


def _user(name: str) -> dict[str, str]:
    return {"username": name, "email": f"{name}@example.com"}


async def _metric(client: httpx.AsyncClient, name: str) -> int:
    text = (await client.get("/metrics")).text
    line = next(x for x in text.splitlines() if x.startswith(f"{name} "))
    return int(float(line.split()[1]))


async def _refused(client: httpx.AsyncClient) -> int:
    """By the service's own count."""
    return await _metric(client, "http_requests_refused_total")


def _is_refusal(response: Response) -> bool:
    """503 says too that the database does not answer; then a request had a place."""
    return response.status == 503 and "too many requests" in response.body["detail"]


async def _stall(system: System, refusals: int) -> None:
    """Keep all from writing users until so many requests have been refused."""
    async with (
        system.client() as client,
        connected(system.database_url) as other,
        other.transaction(),
    ):
        await other.execute("LOCK TABLE users IN EXCLUSIVE MODE")

        async def are_refused() -> bool:
            return await _refused(client) >= refusals

        await eventually(are_refused, 30)


async def _until(done: "asyncio.Future[Any]", act: Callable[[], Awaitable[None]]) -> None:
    while not done.done():
        await act()


@pytest.mark.parametrize("connections", [600, pytest.param(1500, marks=pytest.mark.long)])
async def test_a_flood_is_served_in_part_and_what_is_refused_has_not_acted(
    system: System, connections: int
) -> None:
    await system.start("web")
    clients = [await Client.opened(system.port) for _ in range(connections)]
    responses: dict[str, Response] = {}

    async def flood(number: int, client: Client) -> None:
        for turn in range(4):
            name = f"u{number}x{turn}"
            responses[name] = await client.request("POST", "/users", _user(name))

    flooding = asyncio.gather(*itertools.starmap(flood, enumerate(clients)))
    await _stall(system, refusals=100)
    async with system.client() as prober:

        async def probe() -> None:
            newcomer = await Client.opened(system.port)
            assert (await newcomer.request("GET", "/health/live")).status == 200
            newcomer.close()
            assert (await prober.get("/health/ready")).status_code == 200

        await _until(flooding, probe)
        await flooding
        statuses = Counter(response.status for response in responses.values())
        assert statuses.keys() == {201, 503}
        refusals = list(filter(_is_refusal, responses.values()))
        assert await _refused(prober) == len(refusals)
    refusal = refusals[0]
    assert refusal.headers["content-type"] == "application/problem+json"
    assert refusal.headers["retry-after"] == "1"
    assert refusal.body["request_id"] == refusal.headers["x-request-id"]
    created = sorted(row["username"] for row in await system.fetch("SELECT username FROM users"))
    assert created == sorted(name for name, r in responses.items() if r.status == 201)
    for client in clients:
        client.close()


async def test_a_refused_request_with_a_key_may_be_repeated(system: System) -> None:
    await system.start("web")
    clients = [await Client.opened(system.port) for _ in range(300)]
    attempts: Counter[str] = Counter()
    ids: dict[str, int] = {}

    async def insist(number: int, client: Client) -> None:
        name = f"u{number}"
        while name not in ids:
            attempts[name] += 1
            response = await client.request("POST", "/users", _user(name), key=f"key-{name}")
            if response.status == 201:
                ids[name] = response.body["id"]
            assert response.status in (201, 503)
        again = await client.request("POST", "/users", _user(name), key=f"key-{name}")
        assert again.status == 503 or again.body["id"] == ids[name]

    await asyncio.gather(_stall(system, 100), *itertools.starmap(insist, enumerate(clients)))
    assert max(attempts.values()) > 1  # some were refused
    rows = await system.fetch("SELECT id, username FROM users")
    assert {row["username"]: row["id"] for row in rows} == ids
    for client in clients:
        client.close()


async def test_cached_reads_are_never_refused(system: System) -> None:
    await system.start("web")
    reader = await Client.opened(system.port)
    known = (await reader.request("POST", "/users", _user("known"))).body["id"]
    clients = [await Client.opened(system.port) for _ in range(300)]

    async def flood(number: int, client: Client) -> None:
        for turn in range(4):
            await client.request("POST", "/users", _user(f"u{number}x{turn}"))

    flooding = asyncio.gather(_stall(system, 100), *itertools.starmap(flood, enumerate(clients)))
    reads: Counter[int] = Counter()

    async def read() -> None:
        reads[(await reader.request("GET", f"/users/{known}")).status] += 1

    await _until(flooding, read)
    await flooding
    assert reads.keys() == {200}
    for client in [reader, *clients]:
        client.close()


async def test_a_database_that_stands_still_refuses_soon_and_recovers(system: System) -> None:
    await system.start("web")
    clients = [await Client.opened(system.port) for _ in range(100)]
    async with system.client() as prober:
        async with connected(system.database_url) as other, other.transaction():
            await other.execute("LOCK TABLE users IN EXCLUSIVE MODE")
            responses = await asyncio.gather(
                *(c.request("POST", "/users", _user(f"u{n}")) for n, c in enumerate(clients))
            )
            assert {response.status for response in responses} == {503}
            refused = await _refused(prober)
            assert 50 <= refused < len(clients)  # the others had a place, and waited for the lock

        async def works() -> bool:
            return (await clients[0].request("POST", "/users", _user("later"))).status != 503

        await eventually(works)
    for client in clients:
        client.close()


@pytest.fixture(name="one_process")
async def _one_process(tree: Path, tmp_path: Path) -> AsyncIterator[OneProcess]:
    process = OneProcess(tree, tmp_path)
    await process.start()
    yield process
    await process.close()


ORDERS = 3000


async def _place_orders(process: OneProcess) -> None:
    """Through the queue; returns when all are settled."""
    async with Container.open(process.dependencies.settings()) as container:
        shop = await Shop.opened(container)
        body = shop.order_body((await shop.product(stock=ORDERS), 1))
    async with queue_client(process.dependencies) as queues:
        for number in range(ORDERS):
            await queues.send(Queue.ORDER, body, f"order-{number}")

        async def are_settled() -> bool:
            return not await queues.count(Queue.ORDER)

        await eventually(are_settled, 120)


async def _served_meanwhile(
    port: int,
    connections: int,
    send: Callable[[Client], Awaitable[Response]],
    done: "asyncio.Task[None]",
) -> int:
    """How many requests succeed while each connection sends one after the other."""
    served: Counter[int] = Counter()
    clients = [await Client.opened(port) for _ in range(connections)]

    async def go_on(client: Client) -> None:
        await _until(done, partial(one, client))

    async def one(client: Client) -> None:
        served[(await send(client)).status] += 1

    await asyncio.gather(*map(go_on, clients))
    for client in clients:
        client.close()
    return served[200] + served[201]


async def test_in_one_process_orders_and_writers_get_a_share_each(one_process: OneProcess) -> None:
    """When orders came one by one through the event loop, three requests were served for each."""
    numbers = itertools.count()

    async def write(client: Client) -> Response:
        return await client.request("POST", "/users", _user(f"w{next(numbers)}"))

    placing = asyncio.create_task(_place_orders(one_process))
    served = await _served_meanwhile(one_process.service.port, 128, write, placing)
    await placing
    assert ORDERS / 30 < served < ORDERS
    await check_invariants(one_process.dependencies.database_url)


_LOCKED_OUT = """
SELECT count(*) FILTER (WHERE query LIKE '%INSERT INTO users%') AS writers,
    count(*) FILTER (WHERE query LIKE '%products%') AS batches
FROM pg_stat_activity WHERE wait_event_type = 'Lock'
"""


async def _order_of_a_new_shop(process: OneProcess) -> dict[str, Any]:
    async with Container.open(process.dependencies.settings()) as container:
        shop = await Shop.opened(container)
        return shop.order_body((await shop.product(), 1))


async def test_in_one_process_requests_have_half_of_the_places_beside_orders(
    one_process: OneProcess,
) -> None:
    """All that work wait for a lock, so that they can be counted."""
    url = one_process.dependencies.database_url
    order = await _order_of_a_new_shop(one_process)
    clients = [await Client.opened(one_process.service.port) for _ in range(30)]

    def write() -> "asyncio.Future[list[Response]]":
        return asyncio.gather(
            *(c.request("POST", "/users", _user(f"u{n}")) for n, c in enumerate(clients))
        )

    async with connected(url) as watching, connected(url) as other:

        async def locked_out() -> tuple[int, int]:
            writers, batches = await watching.fetchrow(_LOCKED_OUT)  # type: ignore[misc]
            return writers, batches

        async def are_locked_out(writers: int, batches: int) -> bool:
            return await locked_out() == (writers, batches)

        async with other.transaction():
            await other.execute("LOCK TABLE users IN EXCLUSIVE MODE")
            writing = write()
            await eventually(lambda: are_locked_out(8, 0))
        await writing
        places = await _metric(one_process.service.api, "http_places")
        beside = []
        async with other.transaction():
            await other.execute("LOCK TABLE users, products IN EXCLUSIVE MODE")
            async with queue_client(one_process.dependencies) as queues:
                await queues.send(Queue.ORDER, order, "order-1")
            await eventually(lambda: are_locked_out(0, 1))
            writing = write()
            while (found := await locked_out())[1]:  # until the batch gives up, to try again
                beside.append(found[0])
        await writing
    assert max(beside) == places // 2
    for client in clients:
        client.close()
    await check_invariants(url)


async def test_in_one_process_orders_and_readers_get_a_share_each(one_process: OneProcess) -> None:
    first = await Client.opened(one_process.service.port)
    known = (await first.request("POST", "/users", _user("known"))).body["id"]
    first.close()

    async def read(client: Client) -> Response:
        return await client.request("GET", f"/users/{known}")

    placing = asyncio.create_task(_place_orders(one_process))
    served = await _served_meanwhile(one_process.service.port, 64, read, placing)
    await placing
    assert served > ORDERS
