"""The usual consumer: FastStream, and for each message a session, entities and one commit.

It prevents overselling and deadlocks in the usual way, by locking the products in the order of
their ids. It does not detect repeated messages and sends no replies. In its favour, FastStream's
two log lines per message are switched off.
"""

import os

import uvloop
from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.models.orders import Order, OrderItem
from app.models.products import Product, StockMovement

_PREFETCH = 8

engine = create_async_engine(os.environ["DATABASE_URL"], pool_size=_PREFETCH)
session_maker = async_sessionmaker(engine, expire_on_commit=False)
broker = RabbitBroker(
    os.environ["RABBITMQ_URL"],
    default_channel=Channel(prefetch_count=_PREFETCH),
    logger=None,
)
app = FastStream(broker)


class LineIn(BaseModel):
    product_id: int
    quantity: int


class OrderIn(BaseModel):
    user_id: int
    delivery_address_id: int
    items: list[LineIn]


@broker.subscriber(RabbitQueue(os.environ["QUEUE"], durable=True))
async def place(body: OrderIn) -> None:
    async with session_maker() as session, session.begin():
        products = await _locked(session, [line.product_id for line in body.items])
        order = Order(user_id=body.user_id, delivery_address_id=body.delivery_address_id)
        session.add(order)
        await session.flush()
        for line in body.items:
            product = products[line.product_id]
            session.add(
                OrderItem(
                    order_id=order.id,
                    product_id=product.id,
                    quantity=line.quantity,
                    unit_price=product.price,
                )
            )
            session.add(_taken(product, order.id, line.quantity))


async def _locked(session: AsyncSession, ids: list[int]) -> dict[int, Product]:
    query = select(Product).where(Product.id.in_(ids)).order_by(Product.id).with_for_update()
    return {product.id: product for product in await session.scalars(query)}


def _taken(product: Product, order_id: int, quantity: int) -> StockMovement:
    if product.stock_quantity < quantity:
        raise ValueError(f"product {product.id} is out of stock")
    product.stock_quantity -= quantity
    return StockMovement(
        product_id=product.id, order_id=order_id, reason="order", quantity=-quantity
    )


if __name__ == "__main__":
    uvloop.run(app.run())
