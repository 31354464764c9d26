from datetime import timedelta
from typing import cast

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.models.idempotency import IdempotencyKey

KEPT = timedelta(hours=24)


class IdempotencyRepository:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def claim(self, key: str, fingerprint: bytes) -> bool:
        """False if the key is in use. A repeat waits here for the first request's transaction."""
        values = {"fingerprint": fingerprint, "answer": None, "created_at": func.now()}
        statement = (
            insert(IdempotencyKey)
            .values(key=key, **values)
            .on_conflict_do_update(
                index_elements=[IdempotencyKey.key],
                set_=values,
                where=IdempotencyKey.created_at < func.now() - KEPT,
            )
            .returning(IdempotencyKey.key)
        )
        return (await self._connection.scalar(statement)) is not None

    async def get(self, key: str) -> IdempotencyKey:
        query = select(IdempotencyKey).where(IdempotencyKey.key == key)
        return cast(IdempotencyKey, (await self._connection.execute(query)).one())

    async def store(self, key: str, answer: str) -> None:
        statement = update(IdempotencyKey).where(IdempotencyKey.key == key).values(answer=answer)
        await self._connection.execute(statement)
