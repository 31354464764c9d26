"""While PostgreSQL is away, who needs it is told so; who is refused anyway does not need it."""

from typing import Any

import httpx
import pytest

from app.container import Container
from harness.databases import no_database

USER = {"username": "jane_doe", "email": "jane@example.com"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/users", None, 503),
        ("GET", "/users?count=0", None, 422),
        ("GET", "/users/1", None, 503),
        ("GET", "/users/x", None, 404),
        ("POST", "/users", USER, 503),
        ("POST", "/users", USER | {"email": "x"}, 422),
        ("PUT", "/users/1", {"description": "x"}, 503),
        ("PUT", "/users/1", {"unknown": "x"}, 422),
        ("DELETE", "/users/1", None, 503),
        ("GET", "/report", None, 503),
        ("GET", "/report?report_date=x", None, 422),
        ("POST", "/report", None, 503),
        ("POST", "/report?report_date=2999-01-01", None, 409),
        ("GET", "/messages/x", None, 503),
        ("GET", "/health/live", None, 200),
    ],
)
async def test_who_needs_it(
    client: httpx.AsyncClient,
    container: Container,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: int,
) -> None:
    async with no_database(container):
        answer = await client.request(method, path, json=body)
    assert answer.status_code == status
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_a_key_of_the_wrong_shape(client: httpx.AsyncClient, container: Container) -> None:
    async with no_database(container):
        answer = await client.post("/users", json=USER, headers={"Idempotency-Key": "a b"})
    assert answer.status_code == 422
