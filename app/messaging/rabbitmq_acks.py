"""Acknowledging the deliveries of one consumer, many at once."""

from collections.abc import Sequence

import structlog
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelInvalidStateError

from app.runtime.micro_batcher import MicroBatcher

log = structlog.get_logger(__name__)


class Acknowledgements:
    """Those of one turn of the event loop travel together: in one frame, unless an earlier delivery
    is still in hand.

    RabbitMQ numbers the deliveries of a channel from 1."""

    def __init__(self) -> None:
        self._batches = MicroBatcher(self._send, most=1000)
        self._channel: AbstractChannel | None = None
        self._newest = 0
        self._in_hand: dict[int, None] = {}  # in the order of the numbers

    def took(self, message: AbstractIncomingMessage) -> None:
        """Call it for each message before it is handled."""
        if message.channel is not self._channel:  # the connection is new
            self._channel, self._newest, self._in_hand = message.channel, 0, {}
        # Those in between, which the library kept to itself while it started, are never settled.
        number = message.delivery_tag or 0
        self._in_hand.update(dict.fromkeys(range(self._newest + 1, number + 1)))
        self._newest = max(self._newest, number)

    async def send(self, message: AbstractIncomingMessage) -> None:
        """Return when the acknowledgement is on its way. If its connection has broken, RabbitMQ
        delivers the message again."""
        await self._batches.submit(message)

    async def _send(self, messages: Sequence[AbstractIncomingMessage]) -> Sequence[None]:
        numbers = [m.delivery_tag or 0 for m in messages if m.channel is self._channel]
        for number in numbers:
            del self._in_hand[number]
        oldest = next(iter(self._in_hand), self._newest + 1)
        try:
            if together := [number for number in numbers if number < oldest]:
                await self._acknowledge(max(together), multiple=True)
            for number in numbers:
                if number > oldest:
                    await self._acknowledge(number, multiple=False)
        except ChannelInvalidStateError:
            log.info("not acknowledged, so they come again", count=len(numbers))
        return [None] * len(messages)

    async def _acknowledge(self, number: int, multiple: bool) -> None:
        if self._channel is not None:
            await self._channel.basic_ack(number, multiple=multiple, wait=False)
