"""A client may use its quota at once and gets it back evenly; what is remembered has a bound."""

import pytest

from app.rest.asgi import rate_limit as module
from app.rest.asgi.client_address import ClientAddresses
from app.rest.asgi.rate_limit import Allowance, RateLimit
from app.settings import Rate, Settings


class Clock:
    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


def _state(allowance: Allowance) -> str:
    return dict(allowance.headers)[b"ratelimit"].decode()


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100/s", (100, 1)), ("6000/minute", (6000, 60)), ("7/hour", (7, 3600)), ("1/m", (1, 60))],
)
def test_the_whole_quota_can_be_used_at_once(text: str, rate: tuple[int, int]) -> None:
    assert (found := Settings(rate_limit=text).rate) == rate
    limit = RateLimit(Rate(*rate), clock := Clock())
    assert found is not None
    for left in reversed(range(found.most)):
        allowance = limit.take("a")
        assert allowance.wait == 0 and f";r={left};" in _state(allowance)
    for _ in range(3):  # a refusal costs nothing
        allowance = limit.take("a")
        assert allowance.wait == max(1, -(-found.seconds // found.most))
        assert _state(allowance) == f'"default";r=0;t={found.seconds}'
    assert limit.take("b").wait == 0
    clock.time += found.seconds
    for _ in range(found.most):
        assert limit.take("a").wait == 0
    assert limit.take("a").wait


def test_a_quota_comes_back_evenly() -> None:
    limit = RateLimit(Rate(10, 60), clock := Clock())
    for _ in range(10):
        limit.take("a")
    for _ in range(100):
        assert limit.take("a").wait == 6
        clock.time += 6
        assert limit.take("a").wait == 0
    assert dict(limit.take("a").headers)[b"ratelimit-policy"] == b'"default";q=10;w=60'


def test_it_never_lets_more_pass_than_it_says() -> None:
    limit = RateLimit(Rate(7, 1), clock := Clock())
    passed = 0
    for _ in range(100_000):
        passed += limit.take("a").wait == 0
        clock.time += 0.000_7
    assert 7 * 69 <= passed <= 7 * 71


def test_a_million_addresses_need_no_more_memory_than_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_CLIENTS", 1000)
    limit = RateLimit(Rate(2, 3600), clock := Clock())
    for number in range(1_000_000):
        limit.take("loud")
        limit.take(str(number))
        assert len(limit) <= 1000
    # Who is heard of all the time is not forgotten among them.
    assert limit.take("loud").wait
    assert limit.take("0").wait == 0  # it was
    clock.time += 7200
    for number in range(1000):
        limit.take("another")
    assert len(limit) == 1


@pytest.mark.parametrize(
    ("connected", "forwarded", "client"),
    [
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, 10.9.9.9", "198.51.100.7"),
        ("10.0.0.1", "10.8.8.8, 10.9.9.9", "10.8.8.8"),
        ("10.0.0.1", "198.51.100.7:4321", "198.51.100.7"),
        ("10.0.0.1", "[2001:db8:1:2:3:4:5:6]:4321", "2001:db8:1:2::/64"),
        ("10.0.0.1", "2001:db8:1:2:ffff::6", "2001:db8:1:2::/64"),
        ("fd00::1", "198.51.100.7", "198.51.100.7"),
        ("::ffff:10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "\xff,,", "10.0.0.1"),
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy_of_ours(
    connected: str, forwarded: str, client: str
) -> None:
    headers = {b"x-forwarded-for": forwarded.encode("latin-1")}
    addresses = ClientAddresses("10.0.0.0/8, fd00::1")
    assert addresses.of((connected, 1), headers) == client


def test_without_proxies_nobody_is_believed() -> None:
    addresses = ClientAddresses("")
    assert addresses.of(("10.0.0.1", 1), {b"x-forwarded-for": b"198.51.100.7"}) == "10.0.0.1"
    assert addresses.of(None, {b"x-forwarded-for": b"198.51.100.7"}) == ""
