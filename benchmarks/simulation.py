"""How many orders a deployment takes, what limits it, and how long they wait, from measured costs.

python -m benchmarks.simulation [--orders 3000 30000] [--workers N] [--cores N] [--shops N]
"""

import argparse
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from statistics import fmean, quantiles
from typing import Any

import simpy

from benchmarks.markdown import table

BATCH = 128  # the most orders in a transaction
PREFETCH = 256  # the most that a worker holds
SLICE = 1e-3  # seconds, after which a core goes to the next thread
Steps = Generator[Any, Any, None]


@dataclass(frozen=True)
class Costs:
    """Seconds of CPU for an order, measured by `benchmarks/rows/costs.py`. The worker's are for
    taking, checking and acknowledging it, beside the transaction of those before. `batch` is what a
    transaction takes besides PostgreSQL's CPU, whatever its size: round trips, the disk, deciding.
    It is what is left of the time of a full batch, 128 orders at 4,159 a second."""

    worker: float = 122e-6
    postgres: float = 86e-6
    rabbitmq: float = 78e-6
    batch: float = 19.8e-3


@dataclass(frozen=True)
class Deployment:
    """`shops` have no product in common, as cells or shards have none: orders of one shop wait for
    each other's products. `machine` is the cores that all parts share, if so."""

    workers: int = 1
    postgres_cores: int = 1
    rabbitmq_cores: int = 1
    shops: int = 1
    machine: int | None = None


@dataclass(frozen=True)
class Outcome:
    """`waits` are seconds from arrival to commit, `busy` how much of the time each part is."""

    orders_per_second: float
    waits: list[float]
    busy: dict[str, float]

    @property
    def median(self) -> float:
        return quantiles(self.waits, n=2)[0]

    @property
    def p99(self) -> float:
        return quantiles(self.waits, n=100)[-1]


class Station:
    """Servers that each do one thing at a time; who comes first is served first. On a `machine`
    with others, the servers are its threads, and its cores go round among them."""

    def __init__(
        self, world: simpy.Environment, servers: int, machine: "Station | None" = None
    ) -> None:
        self._world = world
        self._servers = servers
        self._machine = machine
        self.resource = simpy.Resource(world, servers)
        self.used = 0.0

    def serve(self, seconds: float) -> Steps:
        with self.resource.request() as turn:
            yield turn
            self.used += seconds
            if self._machine is None:
                yield self._world.timeout(seconds)
                return
            while seconds > 0:
                yield from self._machine.serve(min(seconds, SLICE))
                seconds -= SLICE

    @property
    def busy(self) -> float:
        return self.used / self._servers / self._world.now


def queue(rate: float, service: Callable[[], float], servers: int, count: int) -> list[float]:
    """The seconds that each of `count` customers spends at one station: M/G/c."""
    world = simpy.Environment()
    station, spent = Station(world, servers), list[float]()

    def customer() -> Steps:
        came = world.now
        yield from station.serve(service())
        spent.append(world.now - came)

    def arrivals() -> Steps:
        for _ in range(count):
            yield world.timeout(random.expovariate(rate))
            world.process(customer())

    world.process(arrivals())
    world.run()
    return spent


class Shop:
    """The consumers of one queue `order`, on PostgreSQL and RabbitMQ."""

    def __init__(self, deployment: Deployment, costs: Costs) -> None:
        self.world = simpy.Environment()
        self._costs = costs
        of = deployment
        machine = Station(self.world, of.machine) if of.machine else None
        self.postgres = Station(self.world, of.postgres_cores, machine)
        self.rabbitmq = Station(self.world, of.rabbitmq_cores, machine)
        self._products = [Station(self.world, 1) for _ in range(of.shops)]
        self._workers = [Station(self.world, 1, machine) for _ in range(of.workers)]
        self._held = [simpy.Resource(self.world, PREFETCH) for _ in range(of.workers)]
        self._waiting = [simpy.Store(self.world) for _ in range(of.workers)]
        for number, waiting in enumerate(self._waiting):
            self.world.process(self._consume(waiting, self._products[number % of.shops]))
        self._done: list[tuple[float, float]] = []

    def _arrivals(self, rate: float) -> Steps:
        while True:
            yield self.world.timeout(random.expovariate(rate))
            self.world.process(self._order(random.randrange(len(self._workers))))

    def _order(self, worker: int) -> Steps:
        came = self.world.now
        yield from self.rabbitmq.serve(self._costs.rabbitmq)
        with self._held[worker].request() as held:
            yield held
            yield from self._workers[worker].serve(self._costs.worker)
            committed = self.world.event()
            yield self._waiting[worker].put(committed)
            yield committed
        self._done.append((self.world.now, came))

    def _consume(self, waiting: simpy.Store, products: Station) -> Steps:
        """What waits when a transaction has ended goes into the next one."""
        while True:
            batch = [(yield waiting.get())]
            while waiting.items and len(batch) < BATCH:
                batch.append((yield waiting.get()))
            with products.resource.request() as locked:
                yield locked
                began = self.world.now
                yield from self.postgres.serve(self._costs.postgres * len(batch))
                yield self.world.timeout(self._costs.batch)
                products.used += self.world.now - began
            for committed in batch:
                committed.succeed()

    def run(self, rate: float, seconds: float) -> Outcome:
        self.world.process(self._arrivals(rate))
        self.world.run(until=seconds)
        warm = [(at, came) for at, came in self._done if at > seconds / 4]
        parts = {
            "workers": fmean(worker.busy for worker in self._workers),
            "PostgreSQL": self.postgres.busy,
            "RabbitMQ": self.rabbitmq.busy,
            "the same products": fmean(products.busy for products in self._products),
        }
        return Outcome(len(warm) / (seconds * 3 / 4), [at - came for at, came in warm], parts)


def simulate(
    rate: float, deployment: Deployment, costs: Costs = Costs(), seconds: float = 10, seed: int = 1
) -> Outcome:
    """`rate` orders arrive in a second, at random moments."""
    random.seed(seed)
    return Shop(deployment, costs).run(rate, seconds)


def _line(rate: float, deployment: Deployment, seconds: float) -> list[str]:
    outcome = simulate(rate, deployment, seconds=seconds)
    grows = outcome.orders_per_second < 0.97 * rate
    waits = ["grows", "grows"] if grows else [
        f"{outcome.median * 1e3:.0f} ms", f"{outcome.p99 * 1e3:.0f} ms"
    ]  # fmt: skip
    busy = [f"{share:.0%}" for share in outcome.busy.values()]
    size = [deployment.shops, deployment.workers, deployment.postgres_cores]
    return [f"{rate:,.0f}", *map(str, size), f"{outcome.orders_per_second:,.0f}", *waits, *busy]


HEADER = (
    *("orders/s that come", "shops", "workers", "PostgreSQL cores", "orders/s placed"),
    *("wait, p50", "wait, p99", "workers busy", "PostgreSQL busy", "RabbitMQ busy"),
    "products locked",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--orders", type=float, nargs="+", default=[1000, 3000, 6000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cores", type=int, default=2, help="of PostgreSQL, and of RabbitMQ")
    parser.add_argument("--shops", type=int, default=1, help="that share no product")
    parser.add_argument("--seconds", type=float, default=10)
    given = parser.parse_args()
    rows = [
        _line(rate, Deployment(workers, given.cores, given.cores, given.shops), given.seconds)
        for rate in given.orders
        for workers in given.workers
    ]
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
