"""How many requests a client may send. Litestar's middleware would stand behind the fast path, and
it rewrites a list of times for each request, behind one lock for all clients.

Counted in the memory of each process: a shared count in Redis would cost a cached read a second
round trip, and would be gone when Redis is."""

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from typing import NamedTuple

from app.runtime.clock import now
from app.settings import Rate, Settings

# In the state of a request that has been counted: the headers of its response.
RATE = "rate"
# How many clients are remembered. With more, those that were not heard of for longest start anew.
MOST_CLIENTS = 50_000

Headers = list[tuple[bytes, bytes]]


class Allowance(NamedTuple):
    """`wait` is 0 for a request that may go on; for the others, the seconds until one may."""

    wait: int
    headers: Headers


UNLIMITED = Allowance(0, [])


class RateLimit:
    """The generic cell rate algorithm: a client may use its quota at once, and gets it back evenly.
    For each client there is one number: when its quota is whole again."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = now) -> None:
        self._rate = rate
        self._clock = clock
        self._interval = rate.seconds / rate.most
        # Half an interval for rounding: it lets nobody have one more.
        self._most_ahead = rate.seconds + self._interval / 2
        self._whole_at: OrderedDict[str, float] = OrderedDict()
        self._policy = b'"default";q=%d;w=%d' % rate

    @classmethod
    def of(cls, settings: Settings) -> "RateLimit | None":
        return cls(settings.rate) if settings.rate else None

    def __len__(self) -> int:
        return len(self._whole_at)

    def take(self, client: str) -> Allowance:
        """Counts a request of the client. One that is refused does not count, so it can be asked
        again."""
        time = self._clock()
        whole_at = max(time, self._whole_at.get(client, 0.0))
        ahead = whole_at + self._interval - time
        is_allowed = ahead <= self._most_ahead
        if is_allowed:
            self._whole_at[client] = whole_at + self._interval
            left = int((self._most_ahead - ahead) / self._interval)
        else:
            ahead, left = whole_at - time, 0
        self._whole_at.move_to_end(client)
        self._forget(time)
        wait = 0 if is_allowed else max(1, _up(ahead + self._interval - self._rate.seconds))
        state = b'"default";r=%d;t=%d' % (left, _up(ahead))
        return Allowance(wait, [(b"ratelimit-policy", self._policy), (b"ratelimit", state)])

    def _forget(self, time: float) -> None:
        """Two at most, which is more than come."""
        for _ in range(2):
            oldest = next(iter(self._whole_at))
            if self._whole_at[oldest] > time and len(self._whole_at) <= MOST_CLIENTS:
                return
            del self._whole_at[oldest]
            if not self._whole_at:
                return


def _up(seconds: float) -> int:
    """To whole seconds, but for what is rounding."""
    return ceil(round(seconds, 3))
