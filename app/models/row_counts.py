from sqlalchemy import BigInteger, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class RowCount(Base):
    """How many rows a table has: the sum of its slots. Triggers keep the count, so that rows which
    psql writes are counted too; the migration `2026_11_26_row_counts.py` creates them.

    Each connection writes to a slot of its own, so that writers seldom wait for each other."""

    __tablename__ = "row_counts"

    table_name: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    rows: Mapped[int] = mapped_column(BigInteger)
