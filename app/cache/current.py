"""Which Redis counts, and for how long a process may rely on what it has seen in PostgreSQL."""

import asyncio
from collections.abc import Iterable

from app.repositories.cache_servers import Standing
from app.runtime.clock import now

TRUST_SECONDS = 0.4
MARGIN_SECONDS = 0.02
# For how long a process leaves the Redis that another process has chosen in its place, though it
# reaches another one itself: two that reach different ones would else displace each other's for
# ever.
YIELD_SECONDS = 5


async def windows_closed(since: float) -> None:
    """Wait until every trust window from before `since` has closed."""
    # The event loop's clock is not ours, and its timers may fire early.
    while (left := since + TRUST_SECONDS + MARGIN_SECONDS - now()) > 0:
        await asyncio.sleep(left)


class CurrentRedis:
    """Which Redis counts, as far as this process knows. Every poll and every write brings the news.

    `prefixes` begin the keys that this process uses: a Redis that an older release has purged,
    which knows fewer, does not count here. `identity` is empty while none counts; `version` changes
    with it."""

    def __init__(self, prefixes: Iterable[bytes]) -> None:
        self._prefixes = {prefix.decode() for prefix in prefixes}
        self.identity = ""
        self.version = 0
        self._generation: int | None = None
        self._looked_at = 0.0
        self._yields_until = 0.0

    def learn(self, standing: Standing | None, looked_at: float, *, is_ours: bool = False) -> None:
        """`looked_at` is the moment before PostgreSQL was asked."""
        if looked_at < self._looked_at:
            return
        self._looked_at = looked_at
        generation = standing.generation if standing else 0
        if generation != self._generation:
            if self._generation is not None and not is_ours:
                self._yields_until = now() + YIELD_SECONDS
            self._generation = generation
        identity = standing.identity if standing and self._is_purged(standing) else ""
        if identity != self.identity:
            self.identity = identity
            self.version += 1

    def _is_purged(self, standing: Standing) -> bool:
        return standing.purged is not None and self._prefixes <= set(standing.purged)

    @property
    def yields(self) -> bool:
        """Whether another process has just made another choice."""
        return now() < self._yields_until

    def counts(self, version: int) -> bool:
        """Whether the Redis of this version still counts for every process. What a process has
        known for longer than TRUST_SECONDS, the others may have given up."""
        return version == self.version and now() < self._looked_at + TRUST_SECONDS
