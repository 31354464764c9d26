from collections.abc import Mapping, Sequence
from datetime import datetime

from app.repositories.order_lives import OrderLifeRepository
from app.repositories.reports import ReportRepository
from app.schemas.messages import MessageRead
from app.schemas.order_lives import OrderLife, OrderReport, StatusReached, StockMovementRead
from app.schemas.orders import OrderDetail, OrderStatus
from app.services.orders import OrderService


class OrderLifeService:
    """What became of one order, from the tables that keep it anyway."""

    def __init__(
        self, orders: OrderService, lives: OrderLifeRepository, reports: ReportRepository
    ) -> None:
        self._orders = orders
        self._lives = lives
        self._reports = reports

    async def read(self, order_id: int) -> OrderLife:
        """Raises NotFound."""
        order = await self._orders.read(order_id)
        statuses = await self._statuses(order)
        movements = await self._lives.movements(order_id)
        told = await self._reports.of_order(order_id)
        report = OrderReport.model_validate(told) if told else None
        ids = [reached.message.message_id for reached in statuses if reached.message]
        return OrderLife(
            order=order,
            statuses=statuses,
            stock_movements=[StockMovementRead.of(row) for row in movements],
            report=report,
            search_for=[f"/orders/{order_id}", *ids, *([report.message_id] if report else ())],
        )

    async def _statuses(self, order: OrderDetail) -> Sequence[StatusReached]:
        reached = _reached(
            order,
            [StatusReached.of(row) for row in await self._lives.statuses(order.id)],
        )
        found = await self._lives.messages(order.id, [status.at for status in reached])
        messages = {row.finished_at: MessageRead.of(row) for row in found}
        return [_with_message(status, messages) for status in reached]


def _reached(order: OrderDetail, changes: Sequence[StatusReached]) -> Sequence[StatusReached]:
    """An order that was changed before changes were kept has the time of the last one itself."""
    reached = [StatusReached(status=OrderStatus.PENDING, at=order.created_at), *changes]
    if reached[-1].status != order.status and order.updated_at:
        reached.append(StatusReached(status=order.status, at=order.updated_at))
    return reached


def _with_message(
    reached: StatusReached, messages: Mapping[datetime, MessageRead]
) -> StatusReached:
    return reached.model_copy(update={"message": messages.get(reached.at)})
