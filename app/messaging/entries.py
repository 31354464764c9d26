"""Entries of the streams as deliveries."""

from collections.abc import Awaitable, Callable
from typing import Any

from faststream.redis import RedisStreamMessage
from faststream.redis.message import FAKE_CONSUMER, bDATA_KEY

from app.messaging.broker import Delivery
from app.schemas.messages import Queue

GROUP = "order-service"


async def itself(message: Any) -> Any:
    return message  # as in rabbit.py


async def parse_any(message: Any, parse: Callable[[Any], Awaitable[Any]]) -> Any:
    """What others have put into the stream must reach us in any shape, to become a dead letter."""
    try:
        return await parse(message)
    except Exception:
        body = message["data"].get(bDATA_KEY) or repr(message["data"]).encode()
        return RedisStreamMessage(message, body, consumer=FAKE_CONSUMER, group=GROUP)


def delivery_of(queue: Queue, message: RedisStreamMessage, redelivered: bool) -> Delivery:
    headers = message.headers
    message_id = headers.get("message_id")
    return Delivery(
        queue=queue,
        body=message.body,
        message_id=None if message_id is None else str(message_id),
        redelivered=redelivered,
        reply_to=str(headers.get("reply_to") or ""),
        correlation_id=str(headers.get("correlation_id") or ""),
        headers=headers,
    )
