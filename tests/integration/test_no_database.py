"""While PostgreSQL is away, requests that need it get 503; invalid ones are rejected without it."""

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
async def test_only_valid_requests_need_the_database(
    client: httpx.AsyncClient,
    container: Container,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    status: int,
) -> None:
    async with no_database(container):
        response = await client.request(method, path, json=body)
    assert response.status_code == status
    assert ("retry-after" in response.headers) == (status == 503)


async def test_an_invalid_idempotency_key_is_rejected_without_the_database(
    client: httpx.AsyncClient, container: Container
) -> None:
    async with no_database(container):
        response = await client.post("/users", json=USER, headers={"Idempotency-Key": "a b"})
    assert response.status_code == 422
