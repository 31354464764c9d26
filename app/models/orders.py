from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Numeric,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Counted, Created, Id, Key


class Order(Counted, Base):
    """`delivery_address` is the address as it was when the order was placed. A trigger fills it in
    for whoever writes an order without it; see its migration."""

    __tablename__ = "orders"

    id: Mapped[Key]
    user_id: Mapped[Id] = mapped_column(ForeignKey("users.id"))
    delivery_address_id: Mapped[Id] = mapped_column(ForeignKey("addresses.id"), index=True)
    delivery_address: Mapped[dict[str, Any]] = mapped_column(JSONB)
    status: Mapped[str] = mapped_column(server_default="pending")
    external_id: Mapped[str | None] = mapped_column(unique=True)
    ordered_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    created_at: Mapped[Created]
    updated_at: Mapped[datetime | None]

    __table_args__ = (
        # With all that lists ask: their totals and their orders by time read no row.
        Index("ix_orders_of_user", "user_id", "id", postgresql_include=["status", "ordered_at"]),
        Index("ix_orders_of_status", "status", "id", postgresql_include=["ordered_at"]),
        # Of orders that are dated into the past alone, so most orders cost nothing here.
        Index(
            "ix_orders_dated_back", "created_at", postgresql_where=text("ordered_at < created_at")
        ),
        CheckConstraint(
            "status IN ('pending', 'processing', 'shipped', 'delivered', 'cancelled')",
            name="status",
        ),
    )


class OrderStatusChange(Base):
    """An order's later statuses: it begins as pending, when it is placed. A trigger writes them,
    whoever changes a status; see its migration."""

    __tablename__ = "order_status_changes"

    order_id: Mapped[Id] = mapped_column(
        ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True
    )
    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    status: Mapped[str]
    changed_at: Mapped[Created]


class OrderItem(Base):
    __tablename__ = "order_items"

    order_id: Mapped[Id] = mapped_column(
        ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True
    )
    product_id: Mapped[Id] = mapped_column(ForeignKey("products.id"), primary_key=True, index=True)
    quantity: Mapped[int]
    unit_price: Mapped[Decimal] = mapped_column(Numeric(12, 2))

    __table_args__ = (
        CheckConstraint("quantity > 0", name="quantity"),
        CheckConstraint("unit_price >= 0", name="unit_price"),
    )
