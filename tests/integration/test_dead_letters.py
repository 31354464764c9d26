"""Dead letters over HTTP: seen, sent again, dropped."""

from typing import Any

import httpx
import pytest

from app import worker
from app.container import Container
from app.queues import Queue
from app.services import dead_letters
from harness.queues import QueueClient
from harness.waiting import eventually
from tests.integration.conftest import Outcome

pytestmark = pytest.mark.parametrize("transport", ["rabbitmq", "streams"])

_PATH = "/dead-letters/product"
_PRODUCT = {"sku": "TEA-001", "name": "Tea", "price": "1.00", "stock_quantity": 1}


async def _listed(client: httpx.AsyncClient, query: str = "") -> Any:
    response = await client.get(f"{_PATH}{query}")
    assert response.status_code == 200, response.text
    return response.json()


async def _bury(queues: QueueClient, container: Container, bodies: dict[str, bytes]) -> None:
    async def all_there() -> bool:
        return await queues.count(Queue.PRODUCT.dead) == len(bodies)

    async with worker.consuming(container):
        for message_id, body in bodies.items():
            await queues.send(Queue.PRODUCT, body, message_id, headers={"tenant": "north"})
        await eventually(all_there)


async def test_listed_shown_and_dropped(
    queues: QueueClient, container: Container, client: httpx.AsyncClient
) -> None:
    assert await _listed(client) == {"letters": [], "total": 0}
    await _bury(queues, container, {"a": b"{", "b/../c": b"\xff\x00", "d": b'{"price": -1}'})
    found = await _listed(client)
    assert found["total"] == 3
    letters = {letter["message_id"]: letter for letter in found["letters"]}
    assert letters.keys() == {"a", "b/../c", "d"}
    assert (letters["a"]["queue"], letters["a"]["reason"]) == ("product", "decode")
    assert letters["d"]["reason"] == "validation" and letters["d"]["detail"]
    shorter = await _listed(client, "?count=2")
    assert (len(shorter["letters"]), shorter["total"]) == (2, 3)

    for letter in found["letters"]:
        shown = (await client.get(f"{_PATH}/{letter['id']}")).json()
        assert {name: shown[name] for name in letter} == letter
        assert shown["headers"]["tenant"] == "north"
    shown = (await client.get(f"{_PATH}/{letters['b/../c']['id']}")).json()
    assert (shown["body"], shown["size"]) == ("\ufffd\x00", 2)

    path = f"{_PATH}/{letters['a']['id']}"
    assert (await client.delete(path)).status_code == 204
    for again in (await client.delete(path), await client.get(path)):
        assert (again.status_code, again.json()["reason"]) == (404, "not-found")
    assert (await _listed(client))["total"] == 2


async def test_a_retry_is_applied_when_the_cause_is_gone(
    queues: QueueClient, container: Container, client: httpx.AsyncClient, outcome: Outcome
) -> None:
    await queues.send(Queue.PRODUCT.dead, _PRODUCT, "late", headers={"x-reason": "decode"})
    (letter,) = (await _listed(client))["letters"]
    path = f"{_PATH}/{letter['id']}/retry"
    retried = await client.post(path, headers={"Idempotency-Key": "once"})
    assert (retried.status_code, retried.json()["message_id"]) == (200, "late")
    repeated = await client.post(path, headers={"Idempotency-Key": "once"})
    assert (repeated.status_code, repeated.content) == (200, retried.content)
    assert (await client.post(path)).status_code == 404
    assert await queues.count(Queue.PRODUCT) == 1
    async with worker.consuming(container):
        assert (await outcome("late"))["status"] == "applied"
    assert (await _listed(client))["total"] == 0


async def test_letters_behind_many_others_are_left_to_the_command_line(
    queues: QueueClient, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOST_READ", 2)
    for number in range(3):
        await queues.send(Queue.PRODUCT.dead, b"{", f"d{number}")
    statuses = [
        (await client.get(f"{_PATH}/{letter['id']}")).status_code
        for letter in (await _listed(client))["letters"]
    ]
    assert statuses == [200, 200, 404]
    assert (await _listed(client))["total"] == 3


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/dead-letters/report", 422),
        ("GET", "/dead-letters/taskiq", 422),
        ("GET", f"{_PATH}?count=101", 422),
        ("GET", f"{_PATH}/x", 422),
        ("GET", f"{_PATH}/{'0' * 32}", 404),
        ("DELETE", f"{_PATH}/{'0' * 32}", 404),
        ("POST", f"{_PATH}/{'0' * 32}/retry", 404),
    ],
)
async def test_what_is_not_there(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    assert (await client.request(method, path)).status_code == status


@pytest.mark.parametrize(("method", "end"), [("DELETE", ""), ("POST", "/retry")])
async def test_a_page_of_another_origin_does_nothing(
    queues: QueueClient, client: httpx.AsyncClient, method: str, end: str
) -> None:
    await queues.send(Queue.PRODUCT.dead, b"{", "stays")
    (letter,) = (await _listed(client))["letters"]
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        path = f"{_PATH}/{letter['id']}{end}"
        assert (await client.request(method, path, headers=headers)).status_code == 403
    assert (await _listed(client))["total"] == 1


async def test_a_broker_that_takes_too_long_is_503(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_SECONDS", 0)
    response = await client.get(_PATH)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
