"""Which clients may send requests, and which host names the service accepts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app import web
from app.container import Container
from app.settings import Settings
from harness.lifespan import lifespan

KEY = "k" * 32
OPEN = ["/health/live", "/health/ready", "/docs", "/schema/openapi.json"]
CLOSED = ["/", "/users", "/users/1", "/products/1", "/orders", "/report", "/messages/x", "/metrics"]


@asynccontextmanager
async def _client(settings: Settings, **variables: Any) -> AsyncIterator[httpx.AsyncClient]:
    changed = Settings(**{**settings.model_dump(), **variables})
    async with Container.open(changed) as container:
        app = web.create_app(container, web.new_places())
        async with lifespan(app):
            transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                yield client


async def test_all_but_health_and_docs_needs_the_key(settings: Settings) -> None:
    async with _client(settings, api_key=KEY) as client:
        for path in OPEN:
            assert (await client.get(path)).status_code == 200, path
        for path in CLOSED:
            rejected = await client.get(path)
            assert (rejected.status_code, rejected.headers["www-authenticate"]) == (401, "Bearer")
            for headers in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY}"}):
                assert (await client.get(path, headers=headers)).status_code in (200, 404), path
        for headers in (
            {"X-API-Key": KEY[1:]},
            {"Authorization": KEY},
            {"Authorization": "Bearer"},
        ):
            assert (await client.get("/users", headers=headers)).status_code == 401


async def test_without_a_key_in_the_settings_none_is_needed(client: httpx.AsyncClient) -> None:
    assert (await client.get("/users")).status_code == 200


@pytest.mark.parametrize(
    ("hosts", "host", "status"),
    [
        (None, "localhost:8000", 200),
        (None, "127.0.0.1", 200),
        (None, "[::1]:8000", 200),
        (None, "app:8000", 200),
        (None, "evil.example", 400),
        (None, "localhost.evil.example", 400),
        ("shop.example", "SHOP.example:443", 200),
        ("shop.example", "localhost", 400),
        ("shop.example", "www.shop.example", 400),
        ("shop.example", "127.0.0.1.evil.example", 400),
        ("shop.example", "10.0.0.7:8000", 200),
        ("shop.example", "[fd00::7]:8000", 200),
        ("shop.example", "10.0.0.256", 400),
        ("shop.example", "[fd00::7::1]", 400),
        ("shop.example, *.Shop.example", "www.shop.example:443", 200),
        ("shop.example, *.shop.example", "a.b.shop.example", 200),
        ("*.shop.example", "shop.example", 400),
        ("*.shop.example", "evilshop.example", 400),
        ("*", "anything.example", 200),
    ],
)
async def test_only_known_host_names_and_addresses_are_accepted(
    settings: Settings, hosts: str | None, host: str, status: int
) -> None:
    async with _client(settings, **({"allowed_hosts": hosts} if hosts else {})) as client:
        response = await client.get("/users", headers={"Host": host})
    assert response.status_code == status
    assert ("ALLOWED_HOSTS" in response.text) == (status == 400)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_that_is_not_declared_as_json_is_rejected(
    client: httpx.AsyncClient, media_type: str
) -> None:
    body = b'{"username": "jane", "email": "jane@example.com"}'
    rejected = await client.post("/users", content=body, headers={"Content-Type": media_type})
    assert rejected.status_code == 415
    assert (await client.get("/users")).json()["total"] == 0


def test_a_production_service_on_a_public_interface_needs_a_key() -> None:
    with pytest.raises(SystemExit, match="API_KEY"):
        web.listen(Settings(host="0.0.0.0", port=1, env="production"))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://localhost"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:9000"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_a_page_of_another_origin_changes_nothing(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    """A browser sends a POST without a body for any page, without asking first."""
    response = await client.post("/report?report_date=2025-01-01", headers=headers)
    assert response.status_code == status
    assert (await client.get("/report?report_date=2025-01-01", headers=headers)).status_code == 200


async def test_responses_with_data_are_stored_nowhere(client: httpx.AsyncClient) -> None:
    for path in ("/users", "/users/9", "/orders", "/report", "/health/live"):
        assert (await client.get(path)).headers["cache-control"] == "no-store", path
    assert "cache-control" not in (await client.get("/docs")).headers
