from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# Only if nobody else was faster.
_PROPOSE = text("""
INSERT INTO cache_server (id, generation, identity) VALUES (1, 1, :identity)
ON CONFLICT (id) DO UPDATE
    SET generation = cache_server.generation + 1, identity = :identity, purged = NULL
    WHERE cache_server.generation = :generation
RETURNING generation
""")
_FIND = text("SELECT generation, identity, purged FROM cache_server")
_CONFIRM = text("""
UPDATE cache_server SET purged = :purged WHERE generation = :generation
RETURNING generation, identity, purged
""")


class Standing(NamedTuple):
    """`generation` changes whenever another Redis is proposed. `purged` are the beginnings of the
    keys that were deleted there since; before that it is None, and the Redis counts for nobody."""

    generation: int
    identity: str
    purged: Sequence[str] | None


class CacheServerRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def find(self) -> Standing | None:
        row = (await self._connection.execute(_FIND)).first()
        return Standing(*row) if row else None

    async def propose(self, identity: str, generation: int) -> int | None:
        """From now on no Redis counts. Returns the new generation, or None unless `generation` was
        the last."""
        values = {"identity": identity, "generation": generation}
        found: int | None = await self._connection.scalar(_PROPOSE, values)
        return found

    async def confirm(self, generation: int, purged: Sequence[str]) -> Standing | None:
        """From now on the proposed one counts, unless another has been proposed: then None."""
        arguments = {"generation": generation, "purged": purged}
        row = (await self._connection.execute(_CONFIRM, arguments)).first()
        return Standing(*row) if row else None
