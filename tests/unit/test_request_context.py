"""A request that is cancelled still gets a response, if none has begun."""

import asyncio
from typing import Any

import pytest
from litestar.types import Receive, Scope, Send
from structlog.testing import capture_logs

from app import logs
from app.rest.asgi.context import RequestContext, record
from app.settings import Settings

START = {"type": "http.response.start", "status": 200, "headers": []}


async def messages_of(app: Any) -> list[Any]:
    """What the application sends, and how its task ended."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope: Any = {
        "type": "http",
        "method": "POST",
        "path": "/orders",
        "query_string": b"",
        "headers": [(b"x-request-id", b"abc")],
    }
    # In a task of its own, as the server runs it.
    task = asyncio.create_task(RequestContext(app, Settings())(scope, receive, send))
    await asyncio.wait([task])
    sent.append("cancelled" if task.cancelled() else task.exception())
    return sent


async def _cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def test_a_cancelled_request_gets_a_response() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await _cancel_this_task()

    start, body, end = await messages_of(app)
    headers = dict(start["headers"])
    assert (start["status"], headers[b"x-request-id"], end) == (503, b"abc", None)
    assert b"retry-after" in headers
    assert b"took too long" in body["body"]


@pytest.mark.parametrize("more", [True, False])
async def test_a_response_that_has_begun_is_not_followed_by_another(more: bool) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)  # type: ignore[arg-type]
        if more:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await _cancel_this_task()

    *messages, end = await messages_of(app)
    assert [message["type"] for message in messages].count("http.response.start") == 1
    assert end == "cancelled"


@pytest.mark.parametrize(
    ("method", "status", "seconds", "is_written"),
    [
        ("GET", 200, 0.01, False),
        ("GET", 304, 0.01, False),
        ("GET", 200, 0.3, True),
        ("GET", 404, 0.01, True),
        ("GET", 503, 0.01, True),
        ("POST", 201, 0.01, True),
        ("DELETE", 204, 0.01, True),
    ],
)
async def test_what_is_not_ordinary_always_has_a_line(
    monkeypatch: pytest.MonkeyPatch, method: str, status: int, seconds: float, is_written: bool
) -> None:
    monkeypatch.setattr(logs.RequestLog, "ordinary", logs.Thinned(0))
    with capture_logs() as lines:
        record("abc", method, "/users", "/users", status, seconds)
    assert len(lines) == is_written
