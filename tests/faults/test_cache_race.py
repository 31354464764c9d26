"""No read returns a value older than one that was acknowledged before, whatever Redis is doing."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest

from harness.databases import Databases
from harness.rabbitmq import RabbitMQ
from harness.waiting import eventually
from tests.faults.ledger import MOST_HIDDEN_SECONDS
from tests.faults.load import Tally
from tests.faults.race import HEAD, PROTOCOLS, row
from tests.faults.scenarios import SCENARIOS, Scenario, messages, race
from tests.faults.stack import Stack, stack_on

_SHORT_SECONDS = 0.9
_LONG_SECONDS = 20
_LONG_READERS = 48  # readers mostly wait for a sick Redis, so many of them cost little CPU
_LONG_READS = 500_000
_LONG_NAIVE_SECONDS = 5


def check(tally: Tally) -> None:
    assert not tally.stale, tally.examples[:10]
    assert not tally.failures
    assert tally.longest_hidden <= MOST_HIDDEN_SECONDS


async def race_until(enough: Callable[[Tally], bool], stack: Stack, scenario: Scenario) -> Tally:
    """On a slow machine one short race may see too little: then there is another."""
    total = Tally()

    async def has_seen_enough() -> bool:
        total.add(await race(stack, scenario, _SHORT_SECONDS))
        return enough(total)

    await eventually(has_seen_enough, failure=lambda: str(total))
    return total


@pytest.mark.fault
@pytest.mark.parametrize("name", SCENARIOS)
async def test_no_stale_read(name: str, stack: Stack) -> None:
    def enough(tally: Tally) -> bool:
        return tally.reads > 50 and tally.writes > 3

    tally = await race_until(enough, stack, SCENARIOS[name])
    check(tally)
    assert tally.reads > 50
    assert tally.writes > 3


@pytest.mark.fault
async def test_no_stale_read_after_a_message(stack: Stack, rabbitmq: RabbitMQ) -> None:
    check(await race(stack, messages(rabbitmq), 2.2))


@pytest.mark.fault
async def test_the_race_finds_the_stale_reads_of_a_plain_cache_aside(
    databases: Databases, tree: Path
) -> None:
    def found(tally: Tally) -> bool:
        return tally.stale > 100 and tally.longest_hidden > MOST_HIDDEN_SECONDS

    async with databases.fresh() as url, stack_on(url, tree, PROTOCOLS["naive"]) as stack:
        tally = await race_until(found, stack, SCENARIOS["cut"])
    assert tally.stale > 100
    assert tally.longest_hidden > MOST_HIDDEN_SECONDS


@pytest.mark.long
async def test_half_a_million_reads_under_all_faults(stack: Stack, rabbitmq: RabbitMQ) -> None:
    scenarios = [*SCENARIOS.values(), messages(rabbitmq)]
    total = Tally()
    print(f"\n{HEAD}")
    for number, scenario in enumerate(cycle(scenarios)):
        if number >= len(scenarios) and total.reads >= _LONG_READS:
            break
        tally = await race(stack, scenario, _LONG_SECONDS, _LONG_READERS)
        print(row(scenario.title, tally), flush=True)
        total.add(tally)
    print(row("total", total))
    check(total)
    assert total.hits > total.reads // 10
    assert total.late > 500


@pytest.mark.long
async def test_plain_cache_aside_gives_thousands_of_stale_reads(
    databases: Databases, tree: Path
) -> None:
    total = Tally()
    print(f"\n{HEAD}")
    async with databases.fresh() as url, stack_on(url, tree, PROTOCOLS["naive"]) as stack:
        for scenario in SCENARIOS.values():
            tally = await race(stack, scenario, _LONG_NAIVE_SECONDS)
            print(row(scenario.title, tally), flush=True)
            total.add(tally)
    print(row("total", total))
    assert total.stale > 3000
