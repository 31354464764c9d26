from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# Only if nobody else was faster.
_PROPOSE = text("""
INSERT INTO cache_server (id, generation, identity, counts) VALUES (1, 1, :identity, false)
ON CONFLICT (id) DO UPDATE
    SET generation = cache_server.generation + 1, identity = :identity, counts = false
    WHERE cache_server.generation = :generation
RETURNING generation
""")
_FIND = text("SELECT generation, identity, counts FROM cache_server")
_CONFIRM = text("""
UPDATE cache_server SET counts = true WHERE generation = :generation
RETURNING generation, identity, counts
""")


class Standing(NamedTuple):
    """`generation` changes whenever another Redis is proposed."""

    generation: int
    identity: str
    counts: bool


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

    async def confirm(self, generation: int) -> Standing | None:
        """From now on the proposed one counts, unless another has been proposed: then None."""
        row = (await self._connection.execute(_CONFIRM, {"generation": generation})).first()
        return Standing(*row) if row else None
