from collections.abc import Awaitable, Callable

from app.errors import KeyReused
from app.repositories.idempotency import IdempotencyRepository
from app.services.after_commit import AfterCommit


class IdempotencyService:
    """A request with a key acts once; a repeat within 24 hours gets the same response."""

    def __init__(self, keys: IdempotencyRepository, after_commit: AfterCommit) -> None:
        self._keys = keys
        self._after_commit = after_commit

    async def once(
        self, key: str, fingerprint: bytes, effect: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """The effect's JSON, from now or from the first use of the key. A refusal is not kept.

        Raises KeyReused if the key came with another `fingerprint`, which stands for the request.
        """
        if await self._keys.claim(key, fingerprint):
            result = await effect()
            await self._keys.store(key, result.decode())
            return result
        stored = await self._keys.get(key)
        if stored.fingerprint != fingerprint or stored.answer is None:
            raise KeyReused
        self._after_commit.repeated(stored.created_at)
        return stored.answer.encode()
