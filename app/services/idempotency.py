from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from app.errors import KeyReused
from app.repositories.idempotency import IdempotencyRepository
from app.services.after_commit import RECENT, Changes


class IdempotencyService:
    """A POST with an Idempotency-Key acts once; a repeat within 24 hours gets the same answer."""

    def __init__(self, keys: IdempotencyRepository, changes: Changes) -> None:
        self._keys = keys
        self._changes = changes

    async def once(
        self, key: str, fingerprint: bytes, effect: Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """The answer as JSON. `fingerprint` stands for the request; a refusal is not kept."""
        if await self._keys.claim(key, fingerprint):
            answer = await effect()
            await self._keys.store(key, answer.decode())
            return answer
        stored = await self._keys.get(key)
        if stored.fingerprint != fingerprint or stored.answer is None:
            raise KeyReused
        self._changes.repeated = datetime.now(UTC) - stored.created_at < RECENT
        kept: str = stored.answer
        return kept.encode()
