from sqlalchemy import BigInteger, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class RowCount(Base):
    """How many rows a table has: the sum of its slots. Triggers keep the count, so that rows which
    psql writes are counted too; the migration `2026_11_28_the_first_month.py` has their function.

    Each connection writes to a slot of its own, so that writers seldom wait for each other. Slot -1
    is where a recount writes what was wrong. A total without this row, or whose triggers are not
    enabled always, is not trusted: see `app/repositories/row_counts.py`."""

    __tablename__ = "row_counts"

    table_name: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    rows: Mapped[int] = mapped_column(BigInteger)
