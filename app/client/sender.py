"""The queues of the running service, with the outcome of every message sent."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from urllib.parse import quote

from pydantic import BaseModel

from app.client.api import Api
from app.client.errors import CliError
from app.errors import Unavailable
from app.messaging.broker import Broker, Outgoing
from app.messaging.opening import open_broker
from app.queues import Queue
from app.runtime import tracing
from app.schemas.messages import MessageRead, MessageStatus
from app.settings import Settings

# How many messages may wait for their outcome at a time.
WINDOW = 256
# A reply that takes longer than ASK_SECONDS may be lost, so the API is asked instead. After
# PATIENCE_SECONDS without any outcome the sender gives up.
ASK_SECONDS = 3.0
PATIENCE_SECONDS = 30.0
RETRY_SECONDS = 1.0


def outgoing(queue: Queue, message_id: str, body: BaseModel) -> Outgoing:
    json = body.model_dump_json(exclude_none=True).encode()
    return Outgoing(queue, json, message_id, tracing.carried())


class Sender:
    """Publishes messages in order and waits for their outcomes."""

    def __init__(self, broker: Broker, api: Api) -> None:
        self._broker = broker
        self._api = api
        self._reply_to = ""
        self._pending: dict[str, asyncio.Future[MessageRead]] = {}
        self._heard_at = 0.0

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, api: Api) -> AsyncIterator["Sender"]:
        """Raises Unavailable if the broker cannot be reached."""
        broker = open_broker(settings)
        sender = cls(broker, api)
        try:
            async with broker.replies(sender.receive) as sender._reply_to:
                yield sender
        finally:
            await broker.close()

    def receive(self, reply: bytes) -> None:
        self._settle(MessageRead.model_validate_json(reply))

    def _settle(self, outcome: MessageRead) -> None:
        self._heard_at = time.monotonic()
        pending = self._pending.get(outcome.message_id)
        if pending and not pending.done() and outcome.status is not MessageStatus.FAILING:
            pending.set_result(outcome)

    async def outcomes(
        self, messages: Iterable[Outgoing]
    ) -> AsyncIterator[tuple[Outgoing, MessageRead | None]]:
        """Each message with its outcome, in the order of the messages; None if none came in time.
        Raises Unavailable if a message cannot be published for 30 s."""
        sent: deque[Outgoing] = deque()
        for message in messages:
            if len(sent) == WINDOW:
                yield sent[0], await self._outcome(sent.popleft())
            await self._send(message)
            sent.append(message)
        for message in sent:
            yield message, await self._outcome(message)

    async def _send(self, message: Outgoing) -> None:
        self._pending[message.message_id] = asyncio.get_running_loop().create_future()
        self._heard_at = time.monotonic()
        while True:
            try:
                # Publishing twice does no harm: a message id takes effect once.
                return await self._broker.publish(replace(message, reply_to=self._reply_to))
            except Unavailable:
                if time.monotonic() > self._heard_at + PATIENCE_SECONDS:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def _outcome(self, message: Outgoing) -> MessageRead | None:
        pending = self._pending[message.message_id]
        while not pending.done():
            left = self._heard_at + PATIENCE_SECONDS - time.monotonic()
            if left <= 0:
                break
            await asyncio.wait({pending}, timeout=min(left, ASK_SECONDS))
            if not pending.done():
                await self._ask()
        del self._pending[message.message_id]
        return pending.result() if pending.done() else None

    async def _ask(self) -> None:
        """A reply is sent once and may be lost; the outcome in the database stays."""
        with suppress(CliError):
            for message_id in list(self._pending):
                if found := await self._api.get(f"/messages/{quote(message_id, safe='')}"):
                    self._settle(MessageRead.model_validate(found))
