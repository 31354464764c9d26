"""What the tests of the queues share, and those of the embedded servers."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import worker
from app.container import Container
from harness.dependencies import Dependencies
from harness.queues import QueueClient, queue_client
from harness.waiting import eventually

Outcome = Callable[[str], Awaitable[dict[str, Any]]]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where no careless quoting of a path finds it."""
    return tmp_path / "a b" / "$data; 'x"


@pytest.fixture
async def queues(dependencies: Dependencies) -> AsyncIterator[QueueClient]:
    async with queue_client(dependencies) as client:
        yield client


@pytest.fixture
async def consumers(container: Container) -> AsyncIterator[None]:
    """The worker's loops, in this process."""
    async with worker.consuming(container):
        yield


@pytest.fixture
def outcome(client: httpx.AsyncClient) -> Outcome:
    """Ask over HTTP, until it is known, what became of a message."""

    async def settled(message_id: str) -> dict[str, Any]:
        async def ask() -> dict[str, Any] | None:
            answer = await client.get(f"/messages/{message_id}")
            known: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
            return known if known and known["status"] != "failing" else None

        found: dict[str, Any] = await eventually(
            ask, failure=lambda: f"{message_id} is not settled"
        )
        return found

    return settled
