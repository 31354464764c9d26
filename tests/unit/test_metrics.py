"""What is noted often is added up once in a turn of the event loop, and nothing of it is lost."""

import asyncio
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram, Metric

from app.metrics import Durations, Tally

_BOUNDS = (0.001, 0.25, 2.5)
# Zero, on each bound, between two, and beyond the last.
_SECONDS = [0, 0.001, 0.0011, 0.2, 0.25, 2.5, 2.500001, 60]


def _samples(metrics: Iterable[Metric]) -> dict[tuple[str, str | None], float]:
    return {
        (sample.name, sample.labels.get("le")): sample.value
        for metric in metrics
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


def test_many_durations_at_once_count_as_one_after_the_other() -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    single = Histogram("seconds", "", ["route"], buckets=_BOUNDS, registry=registries[0])
    for each in _SECONDS:
        single.labels("/").observe(each)
    durations = Durations("seconds", "", ["route"], buckets=_BOUNDS, registry=registries[1])
    durations.labels("/").observe_all(_SECONDS[:3])
    durations.labels("/").observe_all(_SECONDS[3:])
    expected, found = (_samples(registry.collect()) for registry in registries)
    assert found == expected
    assert found["seconds_count", None] == len(_SECONDS)


async def test_a_tally_is_added_up_once_in_a_turn() -> None:
    added: list[list[float]] = []
    tally = Tally(added.append)
    tally.note(2)
    tally.note()
    assert not added
    await asyncio.sleep(0)
    assert added == [[2, 1]]
    tally.note(3)
    await asyncio.sleep(0)
    assert added == [[2, 1], [3]]


async def test_a_tally_survives_the_end_of_its_loop() -> None:
    """A loop that stops in the turn of a note never adds it up. The next loop does."""
    added: list[list[float]] = []
    tally = Tally(added.append)
    ended = asyncio.new_event_loop()
    ended.call_soon(tally.note)
    ended.stop()  # at the end of its first turn
    await asyncio.to_thread(ended.run_forever)
    ended.close()
    assert not added
    tally.note()
    await asyncio.sleep(0)
    assert added == [[1, 1]]
