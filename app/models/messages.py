from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, CheckConstraint, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Created, Id, Key


class Message(Base):
    """The inbox. A message's effect and its row here are one transaction, so that it acts once."""

    __tablename__ = "messages"

    message_id: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    result_id: Mapped[Id | None]
    reason: Mapped[str | None]
    detail: Mapped[str | None]
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    attempts: Mapped[int] = mapped_column(server_default="0")
    fingerprint: Mapped[bytes | None]
    first_seen_at: Mapped[Created] = mapped_column(index=True)
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("status IN ('failing', 'applied', 'rejected', 'dead')", name="status"),
        # Of the few that somebody looks for: most messages cost nothing here.
        Index(
            "ix_messages_not_applied",
            "first_seen_at",
            "message_id",
            "queue",
            postgresql_where=text("status <> 'applied'"),
        ),
        # Of those that did not succeed at once; the others have both times from one transaction.
        Index(
            "ix_messages_finished_later",
            "finished_at",
            postgresql_where=text("finished_at <> first_seen_at"),
        ),
    )


class OutboxMessage(Base):
    """A message for the relay to publish, written in the same transaction as what it reports."""

    __tablename__ = "outbox"

    id: Mapped[Key]
    queue: Mapped[str]
    message_id: Mapped[str]
    headers: Mapped[dict[str, str]] = mapped_column(JSONB, server_default="{}")
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class CacheInvalidation(Base):
    """A cache key whose value may be older than the row, until Redis has confirmed its deletion."""

    __tablename__ = "cache_invalidations"

    id: Mapped[Key]
    key: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class CacheServer(Base):
    """The Redis that counts: the only one whose cached values may be read, and where a deletion
    is confirmed. One row, none before the first. `purged` are the beginnings of the keys that were
    deleted there; while it is null, no Redis counts."""

    __tablename__ = "cache_server"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    generation: Mapped[Id]
    identity: Mapped[str]
    purged: Mapped[list[str] | None] = mapped_column(ARRAY(Text))

    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)
