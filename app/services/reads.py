from app.cache.reads import ReadThroughCache
from app.errors import NotFound


class ReadService:
    """Reads one row by its id. It needs no connection of its own, and most often no database."""

    def __init__(self, what: str, cached: ReadThroughCache) -> None:
        self._what = what
        self._cached = cached

    async def read(self, identity: int) -> bytes:
        """The row as JSON, passed through from the cache as it lies there."""
        row = await self._cached.read(identity)
        if row is None:
            raise NotFound(self._what, identity)
        return row
