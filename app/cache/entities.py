"""What is cached."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from app.database import Database
from app.facts import Fact

Loader = Callable[[Database, Sequence[int]], Awaitable[dict[int, bytes]]]


@dataclass(frozen=True, eq=False)
class CachedEntity:
    """Rows that are cached as JSON under the key `name:{id}` for `ttl` seconds.

    `load` reads committed rows by their ids, each as its JSON. After the commit of a fact in
    `deleted_by` the value is deleted; after one in `refreshed_by` the row is loaded again, so that
    the cache has the new value at once."""

    name: str
    ttl: int
    load: Loader
    deleted_by: frozenset[Fact]
    refreshed_by: frozenset[Fact] = frozenset()

    @cached_property
    def key(self) -> Callable[[int], str]:
        """The key of a row's id."""
        return f"{self.name}:{{}}".format
