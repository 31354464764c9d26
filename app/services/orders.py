from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import structlog

from app.cache.reads import ReadThroughCache
from app.errors import Duplicate, IllegalStep, NotFound, OutOfStock, Refusal
from app.metrics import ORDERS
from app.repositories.orders import LockedStock, NewOrder, OrderRepository
from app.schemas.orders import OrderCreate, OrderDetail, OrderList, OrderRead, OrderStatus
from app.services.after_commit import Changes
from app.services.preconditions import Precondition

log = structlog.get_logger(__name__)

# What an order may become. A cancelled or delivered order stays what it is.
_STEPS = {
    OrderStatus.PENDING: {OrderStatus.PROCESSING, OrderStatus.CANCELLED},
    OrderStatus.PROCESSING: {OrderStatus.SHIPPED, OrderStatus.CANCELLED},
    OrderStatus.SHIPPED: {OrderStatus.DELIVERED},
    OrderStatus.DELIVERED: set[OrderStatus](),
    OrderStatus.CANCELLED: set[OrderStatus](),
}


class _Placed(NamedTuple):
    row: Mapping[Any, Any]
    order: NewOrder
    prices: Mapping[int, Decimal]

    def detail(self) -> OrderDetail:
        items = [
            {"product_id": id, "quantity": quantity, "unit_price": self.prices[id]}
            for id, quantity in sorted(self.order.quantities.items())
        ]
        return OrderDetail.model_validate({**self.row, "items": items})


class OrderService:
    def __init__(
        self, orders: OrderRepository, cached_products: ReadThroughCache, changes: Changes
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
        [answer] = await self._place([body])
        if isinstance(answer, Refusal):
            raise answer
        return answer.detail()

    async def place_all(self, bodies: Sequence[OrderCreate]) -> Sequence[int | Refusal]:
        """Ids. One order after the other, each all or nothing: what one takes, the next does not
        find."""
        answers = await self._place(bodies)
        return [answer if isinstance(answer, Refusal) else answer.row["id"] for answer in answers]

    async def _place(self, bodies: Sequence[OrderCreate]) -> Sequence[_Placed | Refusal]:
        orders = [NewOrder(body, _summed(body)) for body in bodies]
        situation = await self._orders.lock_for(orders)
        refusals = [_take(order, situation) for order in orders]
        accepted = [order for order, refusal in zip(orders, refusals, strict=True) if not refusal]
        added = iter(await self._add(accepted, situation))
        return [refusal or next(added) for refusal in refusals]

    async def _add(self, orders: Sequence[NewOrder], situation: LockedStock) -> Sequence[_Placed]:
        """Prices are the products' own."""
        if not orders:
            return []
        rows = await self._orders.add(orders)
        ORDERS.labels("accepted").inc(len(rows))
        taken = {product_id for order in orders for product_id in order.quantities}
        self._stock_changed(taken)
        for product_id in taken:
            if situation.stock[product_id] == 0:
                log.warning("product is out of stock", product_id=product_id)
        prices = situation.prices
        return [_Placed(row, order, prices) for row, order in zip(rows, orders, strict=True)]

    async def change_status(
        self, order_id: int, status: OrderStatus, precondition: Precondition | None = None
    ) -> OrderDetail:
        """One step at a time; cancelling gives the stock back."""
        now = await self._orders.lock_status(order_id)
        if now is None:
            raise NotFound("order", order_id)
        if precondition:
            precondition.require(await self.read(order_id))
        if status not in _STEPS[OrderStatus(now)]:
            raise IllegalStep(now, status)
        await self._orders.set_status(order_id, status)
        if status is OrderStatus.CANCELLED:
            self._stock_changed(await self._orders.restock(order_id))
        return await self.read(order_id)

    def _stock_changed(self, product_ids: Any) -> None:
        self._changes.deleted.update(self._cached_products.key(id) for id in product_ids)


def _summed(body: OrderCreate) -> Counter[int]:
    quantities: Counter[int] = Counter()
    for line in body.items:
        quantities[line.product_id] += line.quantity
    return quantities


def _take(order: NewOrder, situation: LockedStock) -> Refusal | None:
    """Take what the order wants, or nothing and say why."""
    if refusal := _why_not(order, situation):
        ORDERS.labels("refused").inc()
        return refusal
    for product_id, quantity in order.quantities.items():
        situation.stock[product_id] -= quantity
    if order.body.external_id is not None:
        situation.external_ids.add(order.body.external_id)
    return None


def _why_not(order: NewOrder, situation: LockedStock) -> Refusal | None:
    body, stock = order.body, situation.stock
    if body.user_id not in situation.users:
        return NotFound("user", body.user_id)
    if situation.owners.get(body.delivery_address_id) != body.user_id:
        return NotFound("address", f"{body.delivery_address_id} of user {body.user_id}")
    if unknown := order.quantities.keys() - stock.keys():
        return NotFound("product", min(unknown))
    short = [
        {"product_id": product_id, "wanted": wanted, "in_stock": stock[product_id]}
        for product_id, wanted in sorted(order.quantities.items())
        if stock[product_id] < wanted
    ]
    if short:
        return OutOfStock(short)
    return Duplicate("external_id") if body.external_id in situation.external_ids else None
