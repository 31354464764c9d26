"""Optimistic locking: a caller names the version it has read, and overwrites nothing it has not."""

from dataclasses import dataclass

from app.errors import VersionMismatch
from app.schemas.types import View
from app.schemas.versions import version_of


@dataclass(frozen=True)
class Precondition:
    """The versions of a row that may be changed; None stands for every version."""

    versions: frozenset[str] | None

    def require(self, current: View) -> None:
        """Raises VersionMismatch. Without a lock on the row, `current` may be old by the write."""
        if self.versions is None:
            return
        if version_of(current.model_dump_json().encode()) not in self.versions:
            raise VersionMismatch


ANY_VERSION = Precondition(None)
