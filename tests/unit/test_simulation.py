"""The simulation of docs/scaling.md gives what queueing theory says, where that says something."""

import random
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
    """More workers do not help, more shops with products of their own do."""

    def rate(workers: int, shops: int) -> float:
        deployment = Deployment(workers, 16, 16, shops)
        return simulate(20_000, deployment, seconds=2).orders_per_second

    assert rate(4, 1) == pytest.approx(rate(1, 1), rel=0.1)
    assert rate(4, 4) == pytest.approx(4 * rate(1, 1), rel=0.1)


def test_it_gives_the_rates_that_were_measured() -> None:
    """By the rows `costs`, of which a batch's time is taken, and `growth` of another day with other
    costs, one consumer and two on the same two cores: docs/performance.md."""

    def rate(costs: Costs, workers: int) -> float:
        deployment = Deployment(workers, machine=2)
        return simulate(6_000, deployment, costs, seconds=4).orders_per_second

    assert rate(Costs(), 1) == pytest.approx(4_159, rel=0.05)
    other_day = Costs(worker=224e-6, postgres=161e-6)
    assert rate(other_day, 1) == pytest.approx(3_350, rel=0.12)
    assert rate(other_day, 2) == pytest.approx(3_453, rel=0.12)
