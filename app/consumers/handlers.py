"""What each queue carries and what its messages do: the table in which a queue is registered."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from app.errors import Refusal
from app.queues import Queue
from app.schemas.orders import OrderCreate, OrderUpdateMessage
from app.schemas.products import ProductCreate, ProductUpdateMessage
from app.unit_of_work import UnitOfWork

Effect = Callable[[UnitOfWork, Any], Awaitable[int]]
BatchEffect = Callable[[UnitOfWork, Sequence[Any]], Awaitable[Sequence[int | Refusal]]]


@dataclass(frozen=True)
class Handler:
    """`effect` takes a body of `schema` and returns the id of what it made or changed. It raises a
    Refusal if the shop says no. Its docstring is what /docs/queues says of the queue.

    `batch_effect` does the same for many bodies in one transaction. It returns an id or a Refusal
    for each, and what it refuses has changed nothing."""

    schema: type[BaseModel]
    effect: Effect
    batch_effect: BatchEffect | None = None


async def create_product(uow: UnitOfWork, body: ProductCreate) -> int:
    """Creates a product."""
    return (await uow.products.create(body)).id


async def update_product(uow: UnitOfWork, body: ProductUpdateMessage) -> int:
    """Changes a product: absent fields stay as they are."""
    return (await uow.products.update(body.product_id, body.changes())).id


async def place_order(uow: UnitOfWork, body: OrderCreate) -> int:
    """Places an order: all of it or nothing."""
    return (await uow.orders.place(body)).id


async def place_orders(uow: UnitOfWork, bodies: Sequence[OrderCreate]) -> Sequence[int | Refusal]:
    return await uow.orders.place_all(bodies)


async def update_order(uow: UnitOfWork, body: OrderUpdateMessage) -> int:
    """Takes an order to its next status."""
    return (await uow.orders.change_status(body.order_id, body.status)).id


HANDLERS: dict[Queue, Handler] = {
    Queue.PRODUCT: Handler(ProductCreate, create_product),
    Queue.PRODUCT_UPDATE: Handler(ProductUpdateMessage, update_product),
    Queue.ORDER: Handler(OrderCreate, place_order, place_orders),
    Queue.ORDER_UPDATE: Handler(OrderUpdateMessage, update_order),
}

# A batch shares one commit, and takes the locks of popular products once.
BATCH = 128
BATCH_PREFETCH = 2 * BATCH  # the next batch arrives while one is written


def prefetch(concurrency: int) -> dict[Queue, int]:
    """How many messages of each queue may be in flight. One at a time keeps their order."""
    return {
        queue: BATCH_PREFETCH if handler.batch_effect and concurrency > 1 else concurrency
        for queue, handler in HANDLERS.items()
    }
