"""Which status an order may get next."""

from app.schemas.orders import OrderStatus
from app.services.orders import _STEPS


def reachable(start: OrderStatus) -> set[OrderStatus]:
    return _STEPS[start].union(*map(reachable, _STEPS[start]))


def test_every_status_has_its_steps_and_can_be_reached() -> None:
    assert set(_STEPS) == set(OrderStatus)
    assert reachable(OrderStatus.PENDING) == set(OrderStatus) - {OrderStatus.PENDING}


def test_no_step_leads_back() -> None:
    assert all(status not in reachable(status) for status in OrderStatus)


def test_a_shipped_order_cannot_be_cancelled() -> None:
    for status in (OrderStatus.SHIPPED, OrderStatus.DELIVERED):
        assert OrderStatus.CANCELLED not in reachable(status)
    assert {status for status in OrderStatus if not _STEPS[status]} == {
        OrderStatus.DELIVERED,
        OrderStatus.CANCELLED,
    }
