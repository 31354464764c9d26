from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Created


class IdempotencyKey(Base):
    """The response to a POST that carried an Idempotency-Key, so that a repeat gets the same one.

    `fingerprint` is a hash of the request; `answer` is the response's body, null until it is known.
    """

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    answer: Mapped[str | None]
    created_at: Mapped[Created] = mapped_column(index=True)
