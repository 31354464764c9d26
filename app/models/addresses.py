from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Created, Id, Key


class Address(Base):
    __tablename__ = "addresses"

    id: Mapped[Key]
    user_id: Mapped[Id] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    street: Mapped[str]
    city: Mapped[str]
    state: Mapped[str | None]
    zip_code: Mapped[str | None]
    country: Mapped[str]
    created_at: Mapped[Created]
    updated_at: Mapped[datetime | None]
