"""Bare ASGI functions: a constant, one GET from Redis, and batched rows through asyncpg.

They check, log and count nothing, so they cost what the protocol and one call of a library cost.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from redis.asyncio import Redis

_CONSTANT = b'{"id": 1, "username": "user1", "email": "user1@example.com", "description": null}'
_POOL_SIZE = 10

redis = Redis.from_url(os.environ["REDIS_URL"])


class Rows:
    """One statement loads all ids that are requested in one iteration of the event loop."""

    def __init__(self) -> None:
        self._pool: asyncpg.Pool[Any] | None = None
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._loads: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        url = os.environ["DATABASE_URL"].replace("+asyncpg", "")
        self._pool = await asyncpg.create_pool(url, min_size=_POOL_SIZE, max_size=_POOL_SIZE)

    def get(self, user_id: int) -> "asyncio.Future[bytes]":
        if user_id in self._waiting:
            return self._waiting[user_id]
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._load)
        return self._waiting.setdefault(user_id, loop.create_future())

    def _load(self) -> None:
        waiting, self._waiting = self._waiting, {}
        task = asyncio.create_task(self._resolve(waiting))
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)

    async def _resolve(self, waiting: "dict[int, asyncio.Future[bytes]]") -> None:
        assert self._pool
        query = "SELECT * FROM users WHERE id = ANY ($1)"
        for row in await self._pool.fetch(query, list(waiting)):
            waiting[row["id"]].set_result(json.dumps(dict(row), default=str).encode())


rows = Rows()


async def _constant(_: str) -> bytes:
    return _CONSTANT


async def _cached(identity: str) -> bytes:
    value: Any = await redis.get(f"user:{identity}")
    return value or b""


async def _batched(identity: str) -> bytes:
    return await rows.get(int(identity))


_ROUTES: dict[str, Callable[[str], Awaitable[bytes]]] = {
    "constant": _constant,
    "cached": _cached,
    "batched": _batched,
}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    _, route, identity = scope["path"].split("/")
    body = await _ROUTES[route](identity)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    await rows.open()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
