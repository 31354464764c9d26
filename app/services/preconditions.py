"""Optimistic locking: a caller names the version it has read, and overwrites nothing it has not."""

from dataclasses import dataclass
from hashlib import blake2b

from app.errors import VersionMismatch
from app.schemas.types import View


def version_of(body: bytes) -> str:
    """A digest of a row's JSON: 24 hexadecimal digits."""
    return blake2b(body, digest_size=12).hexdigest()


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
