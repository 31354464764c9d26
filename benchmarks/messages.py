"""Messages that order a few popular products, published to RabbitMQ."""

import json
import random
from typing import Any
from uuid import uuid4

import aio_pika

from benchmarks.data import CUSTOMERS, HOT_PRODUCTS, LINES


def an_order() -> dict[str, Any]:
    customer = random.randint(1, CUSTOMERS)  # whose address has the same id
    products = random.sample(range(1, HOT_PRODUCTS + 1), LINES)
    items = [{"product_id": id, "quantity": quantity} for quantity, id in enumerate(products, 1)]
    return {"user_id": customer, "delivery_address_id": customer, "items": items}


async def publish(url: str, queue: str, count: int) -> None:
    """Publish persistent orders, each with a message id."""
    run = uuid4().hex
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=False)
        await channel.declare_queue(queue, durable=True)
        exchange = channel.default_exchange
        async with channel.transaction():  # a confirmation for each would take minutes
            for number in range(count):
                await exchange.publish(message(f"{run}-{number}"), queue)


def message(message_id: str, **properties: Any) -> aio_pika.Message:
    return aio_pika.Message(
        json.dumps(an_order()).encode(),
        message_id=message_id,
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        **properties,
    )


async def depth(url: str, queue: str) -> int:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, durable=True)
        return declared.declaration_result.message_count or 0
