"""Join the questions that concurrent requests have in one turn of the event loop into one call."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class DataLoader(Generic[K, V]):
    """A caller joins only a call that has not been sent: what it gets is never older than its own
    question, which the cache protocol needs."""

    def __init__(self, fetch: Callable[[list[K]], Awaitable[dict[K, V]]]) -> None:
        self._fetch = fetch
        self._waiting: dict[K, list[asyncio.Future[V | None]]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V | None:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            call = loop.create_task(self._send())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        # Each its own: the end of one request must not take the answer from the others.
        answer: asyncio.Future[V | None] = loop.create_future()
        self._waiting.setdefault(key, []).append(answer)
        return await answer

    async def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        try:
            found = await self._fetch(list(waiting))
        except BaseException as error:
            for answers in waiting.values():
                for answer in answers:
                    if not answer.done():
                        answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for key, answers in waiting.items():
                value = found.get(key)
                for answer in answers:
                    if not answer.done():  # its request is over
                        answer.set_result(value)
