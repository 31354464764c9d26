from datetime import datetime
from decimal import Decimal

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Numeric, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Counted, Created, Id, Key


class Product(Counted, Base):
    __tablename__ = "products"

    id: Mapped[Key]
    sku: Mapped[str | None] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str | None]
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    stock_quantity: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[Created]
    updated_at: Mapped[datetime | None]

    __table_args__ = (
        # As PostgreSQL writes it. 200 characters of a name fit in an index, whatever they are.
        Index("ix_products_name", text('"left"(lower(name) COLLATE "C", 200)'), "id"),
        Index("ix_products_price", "price", "id"),
        CheckConstraint("price >= 0", name="price"),
        CheckConstraint("stock_quantity >= 0", name="stock_quantity"),
    )


class StockMovement(Base):
    """The ledger: every change of a stock. The sum of a product's movements is its stock."""

    __tablename__ = "stock_movements"

    id: Mapped[Key]
    product_id: Mapped[Id] = mapped_column(
        ForeignKey("products.id", ondelete="CASCADE"), index=True
    )
    order_id: Mapped[Id | None] = mapped_column(ForeignKey("orders.id"), index=True)
    reason: Mapped[str]
    quantity: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[Created]

    __table_args__ = (
        CheckConstraint(
            "reason IN ('opening', 'adjustment', 'order', 'cancellation')", name="reason"
        ),
    )
