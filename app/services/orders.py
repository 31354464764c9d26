from collections import Counter
from typing import Any

import structlog

from app.errors import Duplicate, IllegalStep, NotFound, OutOfStock, Refusal
from app.infra.cache import CachedReads
from app.metrics import ORDERS
from app.repositories.orders import OrderRepository
from app.schemas.orders import OrderCreate, OrderDetail, OrderList, OrderRead, OrderStatus
from app.services.changes import Changes
from app.services.versions import require_match

log = structlog.get_logger(__name__)

# What an order may become. A cancelled or delivered order stays what it is.
_STEPS = {
    OrderStatus.PENDING: {OrderStatus.PROCESSING, OrderStatus.CANCELLED},
    OrderStatus.PROCESSING: {OrderStatus.SHIPPED, OrderStatus.CANCELLED},
    OrderStatus.SHIPPED: {OrderStatus.DELIVERED},
    OrderStatus.DELIVERED: set[OrderStatus](),
    OrderStatus.CANCELLED: set[OrderStatus](),
}


class OrderService:
    def __init__(
        self, orders: OrderRepository, cached_products: CachedReads, changes: Changes
    ) -> None:
        self._orders = orders
        self._cached_products = cached_products
        self._changes = changes

    async def list(
        self, user_id: int | None, status: OrderStatus | None, count: int, page: int
    ) -> OrderList:
        wanted = {"user_id": user_id, "status": status}
        filters = {name: value for name, value in wanted.items() if value is not None}
        found = await self._orders.page(filters, count, (page - 1) * count)
        rows = [OrderRead.model_validate(row) for row in found.rows]
        return OrderList(orders=rows, total=found.total)

    async def read(self, order_id: int) -> OrderDetail:
        order = await self._orders.find(order_id)
        if order is None:
            raise NotFound("order", order_id)
        return OrderDetail.model_validate(order)

    async def place(self, body: OrderCreate) -> OrderDetail:
        """All or nothing; prices are the products' own. Lines of one product are summed first."""
        quantities: Counter[int] = Counter()
        for line in body.items:
            quantities[line.product_id] += line.quantity
        row = await self._orders.place(
            body.user_id, body.delivery_address_id, quantities, body.ordered_at, body.external_id
        )
        if row.id is None:
            ORDERS.labels("refused").inc()
            raise _why_not(row, body)
        ORDERS.labels("accepted").inc()
        for product_id in row.sold_out:
            log.warning("product is out of stock", product_id=product_id)
        self._stock_changed(quantities)
        return OrderDetail.model_validate(row)

    async def change_status(
        self, order_id: int, status: OrderStatus, if_match: str | None = None
    ) -> OrderDetail:
        """One step at a time; cancelling gives the stock back."""
        now = await self._orders.lock_status(order_id)
        if now is None:
            raise NotFound("order", order_id)
        if if_match is not None:
            require_match(if_match, await self.read(order_id))
        if status not in _STEPS[OrderStatus(now)]:
            raise IllegalStep(now, status)
        await self._orders.set_status(order_id, status)
        if status is OrderStatus.CANCELLED:
            self._stock_changed(await self._orders.restock(order_id))
        return await self.read(order_id)

    def _stock_changed(self, product_ids: Any) -> None:
        self._changes.deleted.update(self._cached_products.key(id) for id in product_ids)


def _why_not(row: Any, body: OrderCreate) -> Refusal:
    if not row.user:
        return NotFound("user", body.user_id)
    if not row.address:
        return NotFound("address", f"{body.delivery_address_id} of user {body.user_id}")
    for line in row.short:
        if line["in_stock"] is None:
            return NotFound("product", line["product_id"])
    if row.short:
        return OutOfStock(row.short)
    return Duplicate("external_id")
