from datetime import timedelta

from sqlalchemy import delete, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.models import IdempotencyKey

_KEPT = timedelta(hours=24)


class IdempotencyRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def claim(self, key: str, fingerprint: bytes) -> bool:
        """False if the key is in use. A repeat waits here for the first one's transaction."""
        values = {"fingerprint": fingerprint, "answer": None, "created_at": func.now()}
        statement = (
            insert(IdempotencyKey)
            .values(key=key, **values)
            .on_conflict_do_update(
                index_elements=[IdempotencyKey.key],
                set_=values,
                where=IdempotencyKey.created_at < func.now() - _KEPT,
            )
            .returning(IdempotencyKey.key)
        )
        return (await self._session.scalar(statement)) is not None

    async def get(self, key: str) -> IdempotencyKey:
        return await self._session.get_one(IdempotencyKey, key)

    async def store(self, key: str, answer: str) -> None:
        statement = (
            update(IdempotencyKey)
            .where(IdempotencyKey.key == key)
            .values(answer=answer)
            .execution_options(synchronize_session=False)
        )
        await self._session.execute(statement)

    async def forget_old(self) -> None:
        await self._session.execute(
            delete(IdempotencyKey)
            .where(IdempotencyKey.created_at < func.now() - _KEPT)
            .execution_options(synchronize_session=False)
        )
