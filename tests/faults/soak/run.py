"""One soak: the seed decides the sequence of faults; the result is a summary."""

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.tree import copy_tree
from tests.faults import illnesses
from tests.faults.soak.deployment import Deployment, Strike
from tests.faults.soak.market import Market, opened
from tests.faults.soak.one_process import OneProcess
from tests.faults.soak.processes import Processes
from tests.faults.soak.verdict import Verdict, judge
from tests.faults.support.system import json_lines

_SHORTEST, _LONGEST = 0.2, 5.0  # how many seconds a fault lasts
_CALM_SECONDS = 3.0


@dataclass(frozen=True)
class Summary:
    title: str
    rows: Mapping[str, str]
    violations: list[str]

    def __str__(self) -> str:
        rows = {**self.rows, "violations": str(len(self.violations))}
        lines = [f"{name:<12}{value}" for name, value in rows.items()]
        return "\n".join(["", self.title, *lines, *self.violations])


async def soak(
    transport: str, seconds: float, seed: int, make_tree: Callable[[Path], Path] = copy_tree
) -> Summary:
    """Ends by itself: everything after the faults has a time limit."""
    faults: Counter[str] = Counter()
    async with _deployed(transport, make_tree) as deployment:
        market = await opened(deployment)
        began = time.monotonic()
        async with market.open() as tasks:
            chance = random.Random(seed)
            striking = asyncio.ensure_future(_strike_on(deployment, chance, faults))
            await _run_for([striking, asyncio.ensure_future(deployment.watch()), *tasks], seconds)
        took = time.monotonic() - began
        await deployment.heal()
        await market.all_sent()
        verdict = await judge(deployment, market)
        errors = _errors(deployment)
    rows = {"seconds": f"{took:.0f}", **_counts(market, verdict, faults)}
    rows["log errors"] = _events(errors)
    tracebacks = [line["exception"] for line in errors if "exception" in line]
    if verdict.violations and tracebacks:
        rows["traceback"] = tracebacks[-1]
    return Summary(f"soak of {transport}, seed {seed}", rows, verdict.violations)


@asynccontextmanager
async def _deployed(transport: str, make_tree: Callable[[Path], Path]) -> AsyncIterator[Deployment]:
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        directory = Path(name)
        tree = make_tree(directory / "tree")
        if transport == "streams":
            deployment: Deployment = OneProcess(tree, directory)
        else:
            deployment = await Processes.prepared(tree, directory)
        try:
            await deployment.start()
            yield deployment
        finally:
            await deployment.close()


async def _run_for(tasks: "list[asyncio.Future[None]]", seconds: float) -> None:
    """Ends the first two tasks, the faults and the watch; the load goes on. If any task fails, the
    soak itself has failed."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    await illnesses.end(*tasks[:2])
    for task in done:
        task.result()


async def _strike_on(deployment: Deployment, chance: random.Random, faults: Counter[str]) -> None:
    """One or two faults at a time, with a calm of up to _CALM_SECONDS between them."""
    while True:
        await asyncio.sleep(chance.uniform(0, _CALM_SECONDS))
        chosen = _choose(deployment, chance)
        faults.update(strike.name for strike in chosen)
        await asyncio.gather(
            *(strike.act(chance.uniform(_SHORTEST, _LONGEST)) for strike in chosen)
        )


def _choose(deployment: Deployment, chance: random.Random) -> list[Strike]:
    first, second = chance.sample(deployment.strikes, 2)
    victims = {first.victim, second.victim}
    together = len(victims) == 2 and deployment.exclusive not in victims
    return [first, second] if together and chance.random() < 0.3 else [first]


def _counts(market: Market, verdict: Verdict, faults: Counter[str]) -> dict[str, str]:
    customers, tally = market.customers, market.customers.tally
    return {
        "requests": f"{customers.statuses.total()}  {_listed(customers.statuses)}",
        "reads": f"{tally.reads} judged, {tally.stale} stale, hidden {tally.longest_hidden:.3f} s",
        "messages": f"{verdict.outcomes.total()}  {_listed(verdict.outcomes)}, "
        f"{market.senders.repeats} sent twice, "
        f"{sum(map(len, market.senders.reused.values()))} ids reused",
        "faults": f"{faults.total()}  {_listed(faults)}",
    }


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def _errors(deployment: Deployment) -> list[dict[str, Any]]:
    lines = [line for log in deployment.service.directory.glob("*.log") for line in json_lines(log)]
    return [line for line in lines if line.get("level") in ("error", "critical")]


def _events(lines: list[dict[str, Any]]) -> str:
    # Cut before the repr of an object: its address would make every message different.
    events = Counter(f"{line['message']}".split("<")[0].split("\n")[0].strip() for line in lines)
    return f"{events.total()}  {_listed(events)}"
