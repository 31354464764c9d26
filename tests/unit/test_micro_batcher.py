"""MicroBatcher: items that arrive during a call share the next one."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar

import pytest

from app.runtime.micro_batcher import MicroBatcher

request: ContextVar[str] = ContextVar("request", default="nobody's")


class Doubler:
    """Doubles numbers once `open` is set, and fails if one of them is odd."""

    def __init__(self) -> None:
        self.calls: list[Sequence[int]] = []
        self.requests: list[str] = []
        self.open = asyncio.Event()

    async def run(self, numbers: Sequence[int]) -> Sequence[int]:
        self.calls.append(numbers)
        self.requests.append(request.get())
        await self.open.wait()
        if any(number % 2 for number in numbers):
            raise ValueError("odd")
        return [number * 2 for number in numbers]


@pytest.fixture(name="doubler")
async def _doubler() -> Doubler:
    return Doubler()


async def submitted(batcher: MicroBatcher[int, int], *numbers: int) -> "list[asyncio.Task[int]]":
    tasks = [asyncio.ensure_future(batcher.submit(number)) for number in numbers]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_items_that_arrive_during_a_call_share_the_next_in_order(doubler: Doubler) -> None:
    batcher = MicroBatcher(doubler.run, most=3)
    assert not batcher.is_working
    tasks = [*await submitted(batcher, 2), *await submitted(batcher, 8, 4, 6, 10)]
    assert batcher.is_working
    doubler.open.set()
    assert await asyncio.gather(*tasks) == [4, 16, 8, 12, 20]
    assert not batcher.is_working
    assert doubler.calls == [[2], [8, 4, 6], [10]]


async def test_a_failure_reaches_its_batch_and_no_other(doubler: Doubler) -> None:
    batcher = MicroBatcher(doubler.run, most=2)
    doubler.open.set()
    tasks = await submitted(batcher, 1, 2, 4)
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [ValueError, ValueError, int]
    assert await batcher.submit(6) == 12


async def test_an_item_cancelled_before_the_call_is_left_out(doubler: Doubler) -> None:
    batcher = MicroBatcher(doubler.run, most=9)
    first, second, third = [*await submitted(batcher, 2), *await submitted(batcher, 4, 6)]
    second.cancel()
    with suppress(asyncio.CancelledError):
        await second
    doubler.open.set()
    assert (await first, await third) == (4, 12)
    assert doubler.calls == [[2], [6]]


async def test_an_item_cancelled_during_the_call_does_not_disturb_the_others(
    doubler: Doubler,
) -> None:
    batcher = MicroBatcher(doubler.run, most=9)
    first, second = await submitted(batcher, 2, 4)
    first.cancel()
    doubler.open.set()
    assert await second == 8


async def test_a_call_logs_no_request_id_since_it_serves_many(doubler: Doubler) -> None:
    doubler.open.set()
    request.set("mine")
    await MicroBatcher(doubler.run, most=9).submit(2)
    assert doubler.requests == ["nobody's"]
