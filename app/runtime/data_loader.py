"""Concurrent look-ups of one turn of the event loop become one call."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


def fail(result: "asyncio.Future[Any]", error: BaseException) -> None:
    """Unless its request has ended. One that ends in this very turn of the event loop would leave
    the error unread, and asyncio would log that as an error of ours."""
    if not result.done():
        result.set_exception(error)
        result.exception()


class DataLoader(Generic[K, V]):
    """Joins look-ups until their call is sent, and no later.

    So a result is never older than the look-up that asked for it: the cache protocol needs that.
    """

    def __init__(self, fetch: Callable[[list[K]], Awaitable[dict[K, V]]]) -> None:
        self._fetch = fetch
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    def get(self, key: K) -> "asyncio.Future[V | None]":
        """None where `fetch` found nothing. Raises what `fetch` raises."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            call = loop.create_task(self._send())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        # A future for each look-up: cancelling one request must not cancel the others' results.
        result: asyncio.Future[V | None] = loop.create_future()
        self._waiting.setdefault(key, []).append(result)
        return result

    async def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        try:
            found = await self._fetch(list(waiting))
        except BaseException as error:
            for results in waiting.values():
                for result in results:
                    fail(result, error)
            if not isinstance(error, Exception):
                raise
        else:
            for key, results in waiting.items():
                value = found.get(key)
                for result in results:
                    if not result.done():  # its request has ended
                        result.set_result(value)
