"""What is submitted during one call travels together in the next."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from app.runtime.cancellation import is_our_end
from app.runtime.data_loader import fail

T = TypeVar("T")
R = TypeVar("R")


class MicroBatcher(Generic[T, R]):
    """One call at a time, each with all items that were submitted during the one before, in their
    order, `most` at a time.

    `run` returns a result for each item. If it raises, every `submit` of that call raises the same.
    """

    def __init__(self, run: Callable[[Sequence[T]], Awaitable[Sequence[R]]], most: int) -> None:
        self._run = run
        self._most = most
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._working: asyncio.Task[None] | None = None

    @property
    def is_working(self) -> bool:
        return self._working is not None and not self._working.done()

    async def submit(self, item: T) -> R:
        result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if not self.is_working:
            # In an empty context: the message id of the first caller must not be logged for all.
            self._working = asyncio.create_task(self._work(), context=Context())
        return await result

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            # A caller that was cancelled no longer wants its result, nor the work for it.
            await self._call([(item, result) for item, result in batch if not result.done()])

    async def _call(self, batch: Sequence[tuple[T, "asyncio.Future[R]"]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
        except BaseException as error:
            for _, result in batch:
                fail(result, error)
            # A library's cancellation, or the end of one caller, must not end the work for the
            # others.
            if is_our_end(error) or not isinstance(error, Exception | asyncio.CancelledError):
                raise
        else:
            for (_, result), value in zip(batch, results, strict=True):
                if not result.done():
                    result.set_result(value)
