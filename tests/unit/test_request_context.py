"""Whatever ends a request, its client is told."""

import asyncio
from typing import Any

import pytest
from litestar.types import Receive, Scope, Send

from app.rest.asgi.context import RequestContext

START = {"type": "http.response.start", "status": 200, "headers": []}


async def answered(app: Any) -> list[Any]:
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
    # As the server does: a task of its own.
    task = asyncio.create_task(RequestContext(app)(scope, receive, send))
    await asyncio.wait([task])
    sent.append("cancelled" if task.cancelled() else task.exception())
    return sent


async def _is_cancelled() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def test_a_request_that_is_cancelled_gets_an_answer() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await _is_cancelled()

    start, body, end = await answered(app)
    headers = dict(start["headers"])
    assert (start["status"], headers[b"x-request-id"], end) == (503, b"abc", None)
    assert b"retry-after" in headers
    assert b"took too long" in body["body"]


@pytest.mark.parametrize("more", [True, False])
async def test_an_answer_that_has_begun_is_not_followed_by_another(more: bool) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)  # type: ignore[arg-type]
        if more:
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await _is_cancelled()

    *messages, end = await answered(app)
    assert [message["type"] for message in messages].count("http.response.start") == 1
    assert end == "cancelled"
