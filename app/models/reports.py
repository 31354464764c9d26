from datetime import date, datetime

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Created, Id, Key


class Report(Base):
    __tablename__ = "reports"

    id: Mapped[Key]
    report_at: Mapped[date]
    order_id: Mapped[Id] = mapped_column(ForeignKey("orders.id"), index=True)
    count_product: Mapped[int]
    created_at: Mapped[Created]

    __table_args__ = (
        UniqueConstraint("report_at", "order_id"),
        CheckConstraint("count_product > 0", name="count_product"),
    )


class ReportRun(Base):
    """One row per report day. `batches` counts its run parts: the first, and one more whenever
    building the day again finds late orders. A run closes when it is built after its day has ended.
    """

    __tablename__ = "report_runs"

    report_date: Mapped[date] = mapped_column(primary_key=True)
    batches: Mapped[int] = mapped_column(server_default="0")
    closed_at: Mapped[datetime | None]


class ReportRunPart(Base):
    """What one building of a day added: `orders` rows with `units` pieces. Their sum is the day's
    report, so nobody adds up its rows. A trigger writes it; see its migration."""

    __tablename__ = "report_run_parts"

    report_date: Mapped[date] = mapped_column(
        ForeignKey("report_runs.report_date", onupdate="CASCADE", ondelete="CASCADE"),
        primary_key=True,
    )
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    orders: Mapped[Id]
    units: Mapped[Id]
    built_at: Mapped[datetime]


class Installation(Base):
    """One row, written by the first migration: reports are owed from the day of `started_at` on.

    Late orders that arrived before `late_orders_until` are in the reports of their days."""

    __tablename__ = "installation"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    late_orders_until: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)
