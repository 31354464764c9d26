"""Join the look-ups that concurrent requests make in one turn of the event loop into one call."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Gather(Generic[K, V]):
    """A caller joins only a call that has not been sent: what it gets is never older than its own
    question, which the cache protocol needs."""

    def __init__(self, fetch: Callable[[list[K]], Awaitable[dict[K, V]]]) -> None:
        self._fetch = fetch
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def get(self, key: K) -> V | None:
        if not self._waiting:
            call = asyncio.create_task(self._send())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        answer = self._waiting.get(key)
        if answer is None:
            answer = self._waiting[key] = asyncio.get_running_loop().create_future()
        # Others may wait for the same answer: the end of this request must not cancel it.
        return await asyncio.shield(answer)

    async def _send(self) -> None:
        answers, self._waiting = self._waiting, {}
        try:
            found = await self._fetch(list(answers))
        except BaseException as error:
            for answer in answers.values():
                answer.set_exception(error)
                answer.exception()  # its waiters may be gone: no "never retrieved" in the log
            if not isinstance(error, Exception):
                raise
        else:
            for key, answer in answers.items():
                answer.set_result(found.get(key))
