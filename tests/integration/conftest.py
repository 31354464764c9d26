"""Fixtures that the tests of the queues share, and those of the embedded servers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import worker
from app.container import Container
from harness.waiting import eventually

Outcome = Callable[[str], Awaitable[dict[str, Any]]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory whose name breaks every command that quotes it carelessly."""
    return tmp_path / "a b" / "$data; 'x"


@pytest.fixture
async def consumers(container: Container) -> AsyncIterator[None]:
    """Consume the queues in this process, as the worker does."""
    async with worker.consuming(container):
        yield


@pytest.fixture
def outcome(client: httpx.AsyncClient) -> Outcome:
    """Poll GET /messages/{message_id} until the message is settled."""

    async def settled(message_id: str) -> dict[str, Any]:
        async def poll() -> dict[str, Any] | None:
            response = await client.get(f"/messages/{message_id}")
            known: dict[str, Any] | None = response.json() if response.status_code == 200 else None
            return known if known and known["status"] != "failing" else None

        found: dict[str, Any] = await eventually(
            poll, failure=lambda: f"{message_id} is not settled"
        )
        return found

    return settled
