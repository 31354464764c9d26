"""The processes as docker-compose.yml and README.md start them."""

import asyncio
import json
import signal
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from harness.databases import connected
from harness.dependencies import Dependencies
from harness.invariants import check_invariants
from harness.queues import QueueClient, queue_client
from harness.service import COMMANDS, Service
from harness.waiting import eventually

JANE = {"username": "jane_doe", "email": "jane@example.com", "description": "Designer"}
ADDRESS = {"street": "Obere Str. 57", "city": "Berlin", "country": "Germany"}


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


async def test_every_process_shuts_down_cleanly(processes: Service) -> None:
    await processes.start("web", "worker", "scheduler", "taskiq_worker")
    codes = await asyncio.gather(*(process.stop() for process in processes.processes.values()))
    ends = dict(zip(processes.processes, codes, strict=True))
    # TaskIQ's scheduler does not handle SIGTERM.
    assert ends.pop("scheduler") in (0, -signal.SIGTERM)
    assert ends == {"web": 0, "worker": 0, "taskiq_worker": 0}
    for name in ends:
        assert "Traceback" not in processes.processes[name].output, processes.processes[name].output
    assert '"message": "stopped consuming"' in processes.worker.output


async def test_the_example_requests_of_the_original(processes: Service) -> None:
    await processes.start("web")
    await _create_users(processes.api)
    await _change_users(processes.api)
    await _read_the_documentation(processes.api)
    await _send_invalid_requests(processes.api)


async def _create_users(client: httpx.AsyncClient) -> None:
    created = await client.post("/users", json=JANE)
    assert created.status_code == 201
    jane = created.json()
    assert set(jane) == {"id", "created_at", "updated_at", *JANE}
    assert {name: jane[name] for name in JANE} == JANE
    assert (jane["id"], jane["updated_at"]) == (1, None)
    assert (await client.get("/users/1")).json() == jane
    for taken in (JANE | {"email": "x@example.com"}, JANE | {"username": "x"}):
        assert (await client.post("/users", json=taken)).status_code == 400
    for number in range(7):
        body = {"username": f"user{number}", "email": f"user{number}@example.com"}
        assert (await client.post("/users", json=body)).status_code == 201
    everybody = (await client.get("/users")).json()
    assert (everybody["users"][0], everybody["total"]) == (jane, 8)
    page = (await client.get("/users?count=5&page=2")).json()
    assert (page["users"], page["total"]) == (everybody["users"][5:], 8)


async def _change_users(client: httpx.AsyncClient) -> None:
    before = (await client.get("/users/1")).json()
    changed = await client.put("/users/1", json={"email": "newemail@example.com"})
    assert changed.status_code == 200
    after = changed.json()
    assert after["updated_at"] is not None
    assert after == before | {
        "email": "newemail@example.com",
        "updated_at": after["updated_at"],
    }
    assert (await client.get("/users/1")).json() == after
    taken = await client.put("/users/1", json={"username": "user3"})
    assert taken.status_code == 400
    gone = await client.delete("/users/1")
    assert (gone.status_code, gone.content) == (204, b"")
    for response in (
        await client.get("/users/1"),
        await client.put("/users/1", json={}),
        await client.delete("/users/1"),
    ):
        assert response.status_code == 404


async def _read_the_documentation(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert "swagger" in page.text.lower()
    document = (await client.get("/schema/openapi.json")).json()
    assert {"/users", "/users/{user_id}", "/report"} <= set(document["paths"])


async def _send_invalid_requests(client: httpx.AsyncClient) -> None:
    invalid: list[tuple[str, str, Any]] = [
        ("POST", "/users", {"username": "", "email": "no address"}),
        ("PUT", "/users/3", {"email": None}),
        ("GET", "/users?count=101", None),
        ("GET", "/users?page=0", None),
        ("GET", "/users/0", None),
        ("GET", "/report?report_date=yesterday", None),
    ]
    for method, path, body in invalid:
        response = await client.request(method, path, json=body)
        assert response.status_code == 422, (method, path, response.text)


async def test_the_example_messages_cache_keys_and_report_of_the_original(
    processes: Service, dependencies: Dependencies
) -> None:
    await processes.start("web", "worker")
    client = processes.api
    async with queue_client(dependencies) as queues:
        await client.post("/users", json=JANE)
        await client.post("/users/1/addresses", json=ADDRESS)
        order_id = await _order_over_the_queues(client, queues)
        await _look_into_redis(client, dependencies)
        await client.post("/report")
        await _read_the_report(client, order_id, dependencies.database_url)
    await check_invariants(dependencies.database_url)


async def _settled(client: httpx.AsyncClient, message_id: str) -> dict[str, Any]:
    async def poll() -> Any:
        response = await client.get(f"/messages/{message_id}")
        return response.json() if response.status_code == 200 else None

    found: dict[str, Any] = await eventually(poll)
    return found


async def _order_over_the_queues(client: httpx.AsyncClient, queues: QueueClient) -> int:
    product = {"name": "Green tea", "price": 19.9, "stock_quantity": 5}
    await queues.send("product", product, "product")
    product_id = (await _settled(client, "product"))["result_id"]
    items = [{"product_id": product_id, "quantity": 4}]
    body = {"user_id": 1, "delivery_address_id": 1, "items": items}
    await queues.send("order", body, "order")
    order_id: int = (await _settled(client, "order"))["result_id"]
    await queues.send("order_update", {"order_id": order_id, "status": "processing"}, "step")
    assert (await _settled(client, "step"))["status"] == "applied"
    await queues.send("order", body, "too-many")
    assert (await _settled(client, "too-many"))["reason"] == "out-of-stock"
    await queues.send("product_update", {"product_id": product_id, "stock_quantity": 0}, "empty")
    assert (await _settled(client, "empty"))["status"] == "applied"
    assert (await client.get(f"/products/{product_id}")).json()["stock_quantity"] == 0
    assert (await client.get(f"/orders/{order_id}")).json()["status"] == "processing"
    return order_id


async def _look_into_redis(client: httpx.AsyncClient, dependencies: Dependencies) -> None:
    async def value(redis: Redis) -> Any:
        await client.get("/users/1")
        return await redis.get("user:1")

    async with Redis(port=dependencies.valkey.port, decode_responses=True) as redis:
        cached = await eventually(lambda: value(redis))
        assert json.loads(cached) == (await client.get("/users/1")).json()
        assert await redis.keys("user:*") == ["user:1"]
        assert 3500 < await redis.ttl("user:1") <= 3600
        assert 500 < await redis.ttl("product:1") <= 600
        await redis.flushdb()
        assert (await client.get("/users/1")).json() == json.loads(cached)


async def _read_the_report(client: httpx.AsyncClient, order_id: int, database_url: str) -> None:
    [row] = (await client.get("/report")).json()
    assert set(row) == {"id", "report_at", "order_id", "count_product", "created_at"}
    assert (row["order_id"], row["count_product"]) == (order_id, 4)
    day = row["report_at"]
    assert (await client.get(f"/report?report_date={day}")).json() == [row]
    assert (await client.get("/report?report_date=2025-12-16")).json() == []
    async with connected(database_url) as connection:
        rows = await connection.fetch(
            "SELECT id, report_at, order_id, count_product, created_at FROM reports "
            "ORDER BY created_at DESC LIMIT 10"
        )
    assert [(found["order_id"], found["count_product"]) for found in rows] == [(order_id, 4)]


async def test_acknowledged_changes_survive_a_sigkill(
    processes: Service, dependencies: Dependencies
) -> None:
    """Web and worker are killed; after their restart they go on where they were."""
    await processes.start("web", "worker")
    client = processes.api
    async with queue_client(dependencies) as queues:
        await client.post("/users", json=JANE)
        processes.worker.kill()
        await queues.send("product", {"name": "Tea", "price": "1", "stock_quantity": 1}, "made")
        processes.web.kill()
        await processes.start("web", "worker")
        assert (await _settled(client, "made"))["status"] == "applied"
        assert (await client.get("/users/1")).json()["username"] == "jane_doe"


async def test_a_worker_whose_vhost_is_missing_logs_one_line_and_waits(
    processes: Service, dependencies: Dependencies
) -> None:
    assert dependencies.rabbitmq
    worker = processes.process("lost", *COMMANDS["worker"], RABBITMQ_VHOST="nope")
    worker.start()
    try:
        await worker.says("RABBITMQ_VHOST")
        line = next(line for line in worker.output.splitlines() if "RABBITMQ_VHOST" in line)
        assert json.loads(line)["level"] == "warning"
        assert await worker.stop() == 0
    finally:
        worker.kill()
