"""DataLoader: the gets of one loop iteration share a call, which begins after all of them."""

import asyncio
import gc

import pytest

from app.runtime.data_loader import DataLoader


class Source:
    """Returns its values once `open` is set."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.values = {1: "one", 2: "two"}
        self.open = asyncio.Event()
        self.error: BaseException | None = None

    async def fetch(self, keys: list[int]) -> dict[int, str]:
        self.calls.append(keys)
        found = {key: self.values[key] for key in keys if key in self.values}
        await self.open.wait()
        if self.error:
            raise self.error
        return found


@pytest.fixture(name="source")
async def _source() -> Source:
    return Source()


async def test_gets_of_one_loop_iteration_share_a_call(source: Source) -> None:
    source.open.set()
    loader = DataLoader(source.fetch)
    values = await asyncio.gather(*map(loader.get, [1, 2, 1, 3]))
    assert values == ["one", "two", "one", None]
    assert source.calls == [[1, 2, 3]]


async def test_a_get_does_not_join_a_call_that_has_begun(source: Source) -> None:
    loader = DataLoader(source.fetch)
    first = loader.get(1)
    while not source.calls:
        await asyncio.sleep(0)
    source.values[1] = "changed"
    second = loader.get(1)
    await asyncio.sleep(0)
    source.open.set()
    assert (await first, await second) == ("one", "changed")
    assert source.calls == [[1], [1]]


async def test_an_error_reaches_every_waiter_and_no_later_one(source: Source) -> None:
    source.open.set()
    source.error = ValueError("broken")
    loader = DataLoader(source.fetch)
    ends = await asyncio.gather(*map(loader.get, [1, 1, 2]), return_exceptions=True)
    assert ends == [source.error] * 3
    source.error = None
    assert await loader.get(1) == "one"


async def test_a_cancelled_waiter_does_not_disturb_the_others(source: Source) -> None:
    loader = DataLoader(source.fetch)
    waiters = [loader.get(1) for _ in range(3)]
    while not source.calls:
        await asyncio.sleep(0)
    waiters[0].cancel()
    source.open.set()
    ends = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(ends[0], asyncio.CancelledError)
    assert ends[1:] == ["one", "one"]


async def test_an_error_that_nobody_waits_for_is_not_logged(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    loader = DataLoader(source.fetch)
    waiter = loader.get(1)
    while not source.calls:
        await asyncio.sleep(0)
    waiter.cancel()
    source.error = ValueError("broken")
    source.open.set()
    await asyncio.gather(waiter, return_exceptions=True)
    del waiter
    await asyncio.sleep(0)
    assert "never retrieved" not in caplog.text
    source.error = None
    assert await loader.get(2) == "two"


async def test_a_failure_that_nobody_reads_is_no_error_in_the_log(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    """Its request has ended in the same turn of the event loop."""
    source.error = TimeoutError()
    loader = DataLoader(source.fetch)
    result = loader.get(1)
    source.open.set()
    while not result.done():
        await asyncio.sleep(0)
    del result
    gc.collect()
    assert not caplog.records
