"""All tables."""

from app.models.addresses import Address
from app.models.base import Base, Counted
from app.models.idempotency import IdempotencyKey
from app.models.messages import CacheInvalidation, Message, OutboxMessage
from app.models.orders import Order, OrderItem
from app.models.products import Product, StockMovement
from app.models.reports import Installation, Report, ReportRun
from app.models.row_counts import RowCount
from app.models.users import User

__all__ = [
    "Address",
    "Base",
    "CacheInvalidation",
    "Counted",
    "IdempotencyKey",
    "Installation",
    "Message",
    "Order",
    "OrderItem",
    "OutboxMessage",
    "Product",
    "Report",
    "ReportRun",
    "RowCount",
    "StockMovement",
    "User",
]
