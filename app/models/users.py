from datetime import datetime

from sqlalchemy import Index, func
from sqlalchemy.orm import Mapped

from app.models.base import Base, Counted, Created, Key


class User(Counted, Base):
    __tablename__ = "users"

    id: Mapped[Key]
    username: Mapped[str]
    # What two usernames may not have in common: see `username_key` in app/services/users.py. For
    # rows that others insert or rename, triggers fill it in.
    username_key: Mapped[str]
    email: Mapped[str]
    description: Mapped[str | None]
    created_at: Mapped[Created]
    updated_at: Mapped[datetime | None]


Index("uq_users_username", User.username_key, unique=True)
Index("uq_users_email", func.lower(User.email), unique=True)
