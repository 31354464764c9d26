"""A sick server costs its own part of the status page, never the page."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app.embedded import Valkey
from harness.rabbitmq import RabbitMQ
from harness.waiting import eventually
from tests.faults.support.system import System

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = pytest.mark.fault

# A look has 1.5 s. The rest is for the machine of the tests, and far below a hanging page.
_MOST_SECONDS = 4


@asynccontextmanager
async def _ill(what: str, server: Any, node: Any) -> AsyncIterator[None]:
    """`node` is the process that can be frozen."""
    if what == "frozen":
        node.pause()
        try:
            yield
        finally:
            node.resume()
    else:
        server.kill()
        try:
            yield
        finally:
            await server.start()


@pytest.mark.parametrize("transport", ["rabbitmq"])
@pytest.mark.parametrize("what", ["frozen", "killed"])
@pytest.mark.parametrize("part", ["postgresql", "redis", "rabbitmq"])
async def test_a_sick_server_costs_its_own_part_of_the_page(
    system: System, rabbitmq: RabbitMQ, valkey: Valkey, part: str, what: str
) -> None:
    servers: dict[str, tuple[Any, Any]] = {
        "postgresql": (system.postgres, system.postgres),
        "redis": (valkey, valkey),
        "rabbitmq": (rabbitmq, rabbitmq.node),
    }
    await system.start("web")
    async with httpx.AsyncClient(base_url=system.url, timeout=_MOST_SECONDS) as client:
        await eventually(_all_known(client))
        async with _ill(what, *servers[part]):
            told = await eventually(_not_well(client, part))
            page = (await client.get("/", headers={"Accept": "text/html"})).text
            assert f"{part} is not well: " in page
            assert [found for found in ("shop", "queues") if not told[found]["current"]] == {
                "postgresql": ["shop"],
                "redis": [],
                "rabbitmq": ["queues"],
            }[part]
            assert ("These figures are from" in page) == (part != "redis")
        await eventually(_all_known(client), 60)


def _all_known(client: httpx.AsyncClient) -> Callable[[], Awaitable[bool]]:
    async def is_known() -> bool:
        told = await _told(client)
        parts = {part["status"] for part in told["parts"]}
        found = [told[name] for name in ("shop", "queues", "outbox")]
        return parts == {"ok"} and all(part and part["current"] for part in found)

    return is_known


def _not_well(client: httpx.AsyncClient, part: str) -> Callable[[], Awaitable[Any]]:
    async def told() -> dict[str, Any] | None:
        """Once the illness is seen everywhere: one look may be older than it."""
        found = await _told(client)
        status = {each["name"]: each["status"] for each in found["parts"]}[part]
        seen = {"postgresql": "shop", "rabbitmq": "queues"}.get(part)
        is_seen = status != "ok" and not (seen and found[seen]["current"])
        return found if is_seen else None

    return told


async def _told(client: httpx.AsyncClient) -> dict[str, Any]:
    response = await client.get("/")
    assert response.status_code == 200, response.text
    told: dict[str, Any] = response.json()
    return told
