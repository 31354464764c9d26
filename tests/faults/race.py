"""Readers race writers while Redis fails in every way we know: does any read return a stale value?

python -m tests.faults.race --seconds 8 --scenario all
python -m tests.faults.race --seconds 8 --scenario all --protocol naive
"""

import argparse
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from app.embedded import Postgres
from harness.databases import Databases
from harness.rabbitmq import PROGRAMS, RabbitMQ
from harness.tree import copy_tree
from tests.faults.load import Tally
from tests.faults.scenarios import SCENARIOS, Scenario, messages, race
from tests.faults.stack import SERVE, Stack, stack_on

PROTOCOLS = {"full": SERVE, "naive": ("-m", "tests.faults.naive", "serve")}
_OPTIONS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@asynccontextmanager
async def stack_with(protocol: str) -> AsyncIterator[Stack]:
    """A stack on a PostgreSQL of its own."""
    with tempfile.TemporaryDirectory(prefix="race-") as directory:
        tree = copy_tree(Path(directory) / "tree")
        postgres = Postgres(Path(directory), options=_OPTIONS)
        await postgres.start()
        try:
            databases = Databases(postgres)
            await databases.migrate_template(tree)
            url = databases.fresh()
            async with url as made, stack_on(made, tree, PROTOCOLS[protocol]) as stack:
                yield stack
        finally:
            await postgres.stop()


@asynccontextmanager
async def own_rabbitmq() -> AsyncIterator[RabbitMQ]:
    with tempfile.TemporaryDirectory(prefix="race-rabbitmq-") as directory:
        node = RabbitMQ(Path(directory))
        try:
            await node.start()
            yield node
        finally:
            node.close()


def line(columns: Iterable[object]) -> str:
    first, *others = columns
    return f"{first:<28}" + "".join(f"{column:>10}" for column in others)


HEAD = line("scenario,reads,hits,stale,writes,late acks,hidden s,read s,write s".split(","))


def row(title: str, tally: Tally) -> str:
    times = (tally.longest_hidden, tally.slowest_read, tally.slowest_write)
    counts = (tally.reads, tally.hits, tally.stale, tally.writes, tally.late)
    failures = f"  {dict(tally.failures)}" if tally.failures else ""
    return line([title, *counts, *(f"{seconds:.3f}" for seconds in times)]) + failures


async def _race(scenarios: Iterable[Scenario], chosen: argparse.Namespace) -> Tally:
    total = Tally()
    async with stack_with(chosen.protocol) as stack:
        for scenario in scenarios:
            tally = await race(stack, scenario, chosen.seconds, chosen.readers)
            print(row(scenario.title, tally), flush=True)
            total.add(tally)
    return total


async def _main(chosen: argparse.Namespace) -> int:
    print(f"protocol: {chosen.protocol}\n{HEAD}", flush=True)
    if chosen.scenario == "messages":
        async with own_rabbitmq() as rabbitmq:
            total = await _race([messages(rabbitmq)], chosen)
    else:
        everything = chosen.scenario == "all"
        scenarios = SCENARIOS.values() if everything else [SCENARIOS[chosen.scenario]]
        total = await _race(scenarios, chosen)
    print(row("total", total), *total.examples[:5], sep="\n  ")
    return total.stale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["all", *SCENARIOS, *(["messages"] if PROGRAMS.exists() else [])]
    parser.add_argument("--seconds", type=float, default=8, help="for each scenario")
    parser.add_argument("--scenario", choices=names, default="all")
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="full")
    parser.add_argument("--readers", type=int, default=12)
    stale = uvloop.run(_main(parser.parse_args()))
    sys.exit(1 if stale else 0)


if __name__ == "__main__":
    main()
