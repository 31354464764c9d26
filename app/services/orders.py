from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import structlog

from app.errors import Duplicate, IllegalStep, NotFound, OutOfStock, Refusal, TooMuchStock
from app.facts import Fact
from app.metrics import ORDERS
from app.repositories.orders import LockedStock, NewOrder, OrderRepository
from app.schemas.orders import OrderCreate, OrderDetail, OrderList, OrderRead, OrderStatus
from app.schemas.pages import PageRequest
from app.schemas.products import STOCK_MAX
from app.schemas.types import to_nfc
from app.services.after_commit import AfterCommit
from app.services.preconditions import Precondition

log = structlog.get_logger(__name__)

# What may become of an order. A delivered or cancelled order stays as it is.
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
    """Raises NotFound for an unknown order."""

    def __init__(self, orders: OrderRepository, after_commit: AfterCommit) -> None:
        self._orders = orders
        self._after_commit = after_commit

    async def list(
        self,
        wanted: PageRequest,
        *,
        user_id: int | None = None,
        status: OrderStatus | None = None,
        external_id: str | None = None,
        ordered_from: datetime | None = None,
        ordered_before: datetime | None = None,
    ) -> OrderList:
        filters = {
            "user_id": user_id,
            "status": status,
            "external_id": to_nfc(external_id),
            "ordered_from": ordered_from,
            "ordered_before": ordered_before,
        }
        found = await self._orders.page(filters, wanted)
        rows = [OrderRead.of(row) for row in found.rows]
        return OrderList(orders=rows, total=found.total, next=found.next)

    async def read(self, order_id: int) -> OrderDetail:
        order = await self._orders.find(order_id)
        if order is None:
            raise NotFound("order", order_id)
        items = await self._orders.items(order_id)
        return OrderDetail.model_validate({**order, "items": items})

    async def place(self, body: OrderCreate) -> OrderDetail:
        """All of the order, at the products' own prices, or nothing.

        Raises NotFound for an unknown user, address or product, OutOfStock, and Duplicate if
        another order has this external_id."""
        [result] = await self._place([body])
        if isinstance(result, Refusal):
            raise result
        return result.detail()

    async def place_all(self, bodies: Sequence[OrderCreate]) -> Sequence[int | Refusal]:
        """As `place`, one order after the other: what one takes, the next does not find. The id of
        each order, or the Refusal that `place` would raise."""
        results = await self._place(bodies)
        return [result if isinstance(result, Refusal) else result.row["id"] for result in results]

    async def _place(self, bodies: Sequence[OrderCreate]) -> Sequence[_Placed | Refusal]:
        orders = [NewOrder(body, _summed(body)) for body in bodies]
        locked = await self._orders.lock_for(orders)
        refusals = [_take(order, locked) for order in orders]
        accepted = [order for order, refusal in zip(orders, refusals, strict=True) if not refusal]
        added = iter(await self._add(accepted, locked))
        return [refusal or next(added) for refusal in refusals]

    async def _add(self, orders: Sequence[NewOrder], locked: LockedStock) -> Sequence[_Placed]:
        if not orders:
            return []
        rows = await self._orders.add(orders, locked.prices)
        ORDERS.labels("accepted").inc(len(rows))
        taken = {product_id for order in orders for product_id in order.quantities}
        self._after_commit.record(Fact.STOCK_CHANGED, taken)
        for product_id in taken:
            if locked.stock[product_id] == 0:
                log.warning("product is out of stock", product_id=product_id)
        return [_Placed(row, order, locked.prices) for row, order in zip(rows, orders, strict=True)]

    async def change_status(
        self, order_id: int, status: OrderStatus, precondition: Precondition | None = None
    ) -> OrderDetail:
        """One step at a time; cancelling gives the products back to the stock.

        Raises IllegalStep, TooMuchStock, and VersionMismatch if the precondition does not hold."""
        now = await self._orders.lock_status(order_id)
        if now is None:
            raise NotFound("order", order_id)
        if precondition:
            precondition.require(await self.read(order_id))
        if status not in _STEPS[OrderStatus(now)]:
            raise IllegalStep(now, status)
        await self._orders.set_status(order_id, status)
        if status is OrderStatus.CANCELLED:
            restocked = await self._orders.restock(order_id)
            for product_id, stock in restocked.items():
                if stock > STOCK_MAX:
                    raise TooMuchStock(product_id, STOCK_MAX)
            self._after_commit.record(Fact.STOCK_CHANGED, restocked)
        return await self.read(order_id)


def _summed(body: OrderCreate) -> Counter[int]:
    quantities: Counter[int] = Counter()
    for line in body.items:
        quantities[line.product_id] += line.quantity
    return quantities


def _take(order: NewOrder, locked: LockedStock) -> Refusal | None:
    """Take what the order wants from the locked stock; or nothing, and say why."""
    if refusal := _why_not(order, locked):
        ORDERS.labels("refused").inc()
        return refusal
    for product_id, quantity in order.quantities.items():
        locked.stock[product_id] -= quantity
    if order.body.external_id is not None:
        locked.external_ids.add(order.body.external_id)
    return None


def _why_not(order: NewOrder, locked: LockedStock) -> Refusal | None:
    body, stock = order.body, locked.stock
    if body.user_id not in locked.users:
        return NotFound("user", body.user_id)
    if locked.owners.get(body.delivery_address_id) != body.user_id:
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
    return Duplicate("external_id") if body.external_id in locked.external_ids else None
