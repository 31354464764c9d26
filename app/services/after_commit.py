"""What a unit of work must do once it has committed."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from app.facts import Fact
from app.repositories.invalidations import Announced

# Longer than any transaction may last, plus a margin for clocks that differ.
_RECENT = timedelta(seconds=30)


class AfterCommit:
    """Services write it down here; the unit of work does it after the commit.

    `facts` are the ids that each fact is about, and `announced` the keys that a change
    itself has announced as stale. `outbox_ids` are rows of the outbox to send: a
    process that publishes sends them at once, the relay of another one after a moment."""

    def __init__(self) -> None:
        self.facts: defaultdict[Fact, set[int]] = defaultdict(set)
        self.announced: list[Announced] = []
        self.outbox_ids: list[int] = []
        self.repeats_recent = False

    def record(self, fact: Fact, ids: Iterable[int], announced: Announced | None = None) -> None:
        self.facts[fact].update(ids)
        if announced:
            self.announced.append(announced)

    def enqueued(self, outbox_ids: Iterable[int]) -> None:
        self.outbox_ids.extend(outbox_ids)

    def repeated(self, settled_at: datetime) -> None:
        """The change was committed before, at `settled_at`. If that was a moment ago, by another
        process perhaps, its caches may not have been invalidated yet."""
        self.repeats_recent = datetime.now(UTC) - settled_at < _RECENT


class NothingFollows(AfterCommit):
    """For reading, where nothing commits: a service that records something here has a bug."""

    def record(self, fact: Fact, ids: Iterable[int], announced: Announced | None = None) -> None:
        raise RuntimeError(
            f"'{fact}' would be lost: this only reads, so nothing follows it. "
            "Open a unit of work: container.unit_of_work(), not container.reading()"
        )

    def enqueued(self, outbox_ids: Iterable[int]) -> None:
        raise RuntimeError(
            "messages would be sent without a transaction: this only reads. "
            "Open a unit of work: container.unit_of_work(), not container.reading()"
        )
