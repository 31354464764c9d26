"""The simulation of docs/scaling.md gives what queueing theory says, where that says something."""

import random
from collections.abc import Callable
from math import factorial
from statistics import fmean

import pytest

from benchmarks.simulation import Costs, Deployment, queue, simulate

SECONDS = 0.01  # to serve one


def _erlang_c(load: float, servers: int) -> float:
    """The probability that a customer of M/M/c has to wait."""
    last = load**servers / factorial(servers) * servers / (servers - load)
    return last / (sum(load**n / factorial(n) for n in range(servers)) + last)


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("servers", [1, 2, 8])
def test_random_service_times_are_m_m_c(busy: float, servers: int) -> None:
    random.seed(3)
    rate = busy * servers / SECONDS
    spent = queue(rate, lambda: random.expovariate(1 / SECONDS), servers, 60_000)
    load = busy * servers
    expected = SECONDS + _erlang_c(load, servers) * SECONDS / (servers - load)
    assert fmean(spent) == pytest.approx(expected, rel=0.1)


def test_constant_service_times_wait_half_as_long() -> None:
    """M/D/1, by the formula of Pollaczek and Khinchine."""
    random.seed(3)
    spent = queue(0.8 / SECONDS, lambda: SECONDS, 1, 60_000)
    expected = SECONDS + 0.8 * SECONDS / (2 * (1 - 0.8))
    assert fmean(spent) == pytest.approx(expected, rel=0.1)


def test_a_part_is_as_busy_as_its_cost_says() -> None:
    costs = Costs()
    outcome = simulate(1000, Deployment(workers=1, postgres_cores=2, rabbitmq_cores=2), costs)
    assert outcome.orders_per_second == pytest.approx(1000, rel=0.05)
    assert outcome.busy["workers"] == pytest.approx(1000 * costs.worker, rel=0.05)
    assert outcome.busy["PostgreSQL"] == pytest.approx(1000 * costs.postgres / 2, rel=0.05)


def test_orders_of_the_same_products_wait_for_each_other() -> None:
    """A second worker helps little, a second shop with products of its own helps as much again."""
    rate: Callable[[Deployment], float] = lambda of: simulate(50_000, of).orders_per_second
    one = rate(Deployment(1, 64, 64))
    assert rate(Deployment(8, 64, 64)) < 4 * one
    assert rate(Deployment(8, 64, 64, shops=8)) == pytest.approx(8 * one, rel=0.1)
