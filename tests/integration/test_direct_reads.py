"""The fast path sends exactly what Litestar would send."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar.types import Receive, Scope, Send
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app import web
from app.container import Container
from app.embedded import Valkey
from app.rest.asgi.context import RequestContext
from app.rest.asgi.fast_path import FastPath
from app.rest.asgi.gatekeeper import Gatekeeper
from harness.databases import no_database
from harness.dependencies import Dependencies
from harness.shop import Shop
from harness.waiting import eventually

# A parameter that nothing reads: it changes nothing, except that the request goes to Litestar.
BY_LITESTAR = "/"
ELSEWHERE = 418
STATUSES = (200, 304, 404, 503)


async def _elsewhere(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": ELSEWHERE, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def client_of(app: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.fixture
async def direct(container: Container) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the fast path alone; what it leaves to Litestar is 418."""
    door = Gatekeeper(FastPath(_elsewhere, container), container.settings)
    async with client_of(RequestContext(door)) as client:
        yield client


class Observed:
    """Everything about a request that is visible: the response, the log line and the metrics."""

    def __init__(self, response: httpx.Response, line: Any, counted: list[float]) -> None:
        assert line.pop("milliseconds") >= 0
        headers = [pair for pair in response.headers.raw if pair[0] != b"x-request-id"]
        self.status = response.status_code
        self.counted = counted
        self.seen = (self.status, headers, response.content, line, counted)


async def observe(client: httpx.AsyncClient, method: str, path: str, **headers: str) -> Observed:
    given = {b"x-request-id": b"same"}
    given |= {k.replace("_", "-").encode(): v.encode("latin-1") for k, v in headers.items()}
    await asyncio.sleep(0)  # requests are counted once in a turn of the loop
    before = _counted(path)
    with capture_logs() as lines:
        response = await client.request(method, path, headers=given)
    assert response.headers["x-request-id"] == "same"
    (line,) = [line for line in lines if line["event"] == "request"]
    await asyncio.sleep(0)
    added = [a - b for a, b in zip(_counted(path), before, strict=True)]
    return Observed(response, line, added)


def _counted(path: str) -> list[float]:
    route = "/users/{user_id}" if path.startswith("/users") else "/products/{product_id}"
    totals = [{"method": "GET", "route": route, "status": str(status)} for status in STATUSES]
    samples = [
        *(REGISTRY.get_sample_value("http_requests_total", labels) for labels in totals),
        REGISTRY.get_sample_value("http_request_seconds_count", {"route": route}),
    ]
    return [sample or 0 for sample in samples]


async def both(
    direct: httpx.AsyncClient, client: httpx.AsyncClient, path: str, status: int, **headers: str
) -> None:
    for method in ("GET", "HEAD"):
        ours = await observe(direct, method, path, **headers)
        assert ours.seen == (await observe(client, method, path + BY_LITESTAR, **headers)).seen
        assert ours.status == status
        assert ours.counted == [*(float(status == known) for known in STATUSES), 1]


@pytest.fixture
async def paths(shop: Shop, client: httpx.AsyncClient, valkey: Valkey) -> list[str]:
    """The paths of a user and of a product that the service has cached."""
    paths = [f"/users/{shop.user_id}", f"/products/{await shop.product()}"]

    async def cached() -> bool:
        with capture_logs() as lines:
            for path in paths:
                await client.get(path)
        return [line["event"] for line in lines].count("cache hit") == len(paths)

    await eventually(cached)
    return paths


async def test_hits(paths: list[str], direct: httpx.AsyncClient, client: httpx.AsyncClient) -> None:
    for path in paths:
        await both(direct, client, path, 200)
        tag = (await direct.get(path)).headers["etag"]
        for known in (tag, "*", f'"x", {tag}', f"W/{tag}"):
            await both(direct, client, path, 304, if_none_match=known)
        for known in ('"x"', "", "null", "\xe9", tag.strip('"')):
            await both(direct, client, path, 200, if_none_match=known)


async def test_the_first_of_two_headers_counts(
    paths: list[str], direct: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    tag = (await direct.get(paths[0])).headers["etag"]
    for first, second, status in ((tag, '"x"', 304), ('"x"', tag, 200)):
        known = [("If-None-Match", first), ("If-None-Match", second)]
        assert (await direct.get(paths[0], headers=known)).status_code == status
        assert (await client.get(paths[0] + BY_LITESTAR, headers=known)).status_code == status


async def test_rows_that_do_not_exist(
    paths: list[str], direct: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    for path in ("/users/9007199254740991", "/products/9007199254740991"):
        await both(direct, client, path, 404)
        await both(direct, client, path, 404, if_none_match="*")


async def test_without_redis(
    paths: list[str], direct: httpx.AsyncClient, client: httpx.AsyncClient, valkey: Valkey
) -> None:
    await valkey.stop()
    for path in paths:
        await both(direct, client, path, 200)


async def test_without_a_database(
    paths: list[str], direct: httpx.AsyncClient, client: httpx.AsyncClient, container: Container
) -> None:
    async with no_database(container):
        for path in ("/users/77", "/products/77"):
            await both(direct, client, path, 503)


@pytest.mark.parametrize(
    "path",
    ["/users", "/users/0", "/users/01", "/users/+1", "/users/-1", "/users/1_0", "/users/9007199254740992",
     "/users/1/", "//users/1", "/users/1/addresses", "/users/1?x=1", "/users/x", "/users/%D9%A1",
     "/orders/1", "/users/1%0A", "/Users/1", "/users/99999999999999999"],
)  # fmt: skip
async def test_unusual_paths_are_left_to_litestar(path: str, direct: httpx.AsyncClient) -> None:
    assert (await direct.get(path)).status_code == ELSEWHERE


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "POST", "PATCH"])
async def test_writes_are_left_to_litestar(method: str, direct: httpx.AsyncClient) -> None:
    response = await direct.request(
        method, "/users/1", headers={"Content-Type": "application/json"}
    )
    assert response.status_code == ELSEWHERE


async def test_the_gatekeeper_stands_before_the_fast_path(dependencies: Dependencies) -> None:
    async with Container.open(dependencies.settings(api_key="k" * 32)) as container:
        async with client_of(web.create_app(container)) as client:
            for path in ("/users/1", "/users/1" + BY_LITESTAR):
                key = {"X-API-Key": "k" * 32}
                assert (await client.get(path)).status_code == 401
                assert (await client.get(path, headers={"X-API-Key": "k"})).status_code == 401
                foreign = await client.get(path, headers={"Host": "evil.example", **key})
                assert foreign.status_code == 400
                assert (await client.get(path, headers=key)).status_code == 404
