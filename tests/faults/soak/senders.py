"""Sends messages to the queues, some of them twice, and knows which outcomes are allowed."""

import asyncio
import random
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

from app.queues import Queue
from harness.queues import QueueClient
from tests.faults.soak.deployment import Deployment

_SEND_SECONDS = 4
_AGAIN_SECONDS = 0.3
_TWICE = 0.2


@dataclass(frozen=True)
class Message:
    queue: Queue
    id: str
    body: Any
    reused: bool = False


class Senders:
    """Sends each message until the broker confirms it: from then on it must not be lost."""

    def __init__(self, deployment: Deployment) -> None:
        self.published: dict[Queue, set[str]] = defaultdict(set)
        self.reused: dict[Queue, set[str]] = defaultdict(set)
        self.expected: dict[str, set[str]] = {}
        self.repeats = 0
        self._deployment = deployment
        self._waiting: deque[Message] = deque()
        self._closing = False

    def submit(self, queue: Queue, message_id: str, body: Any, expected: set[str]) -> None:
        """`expected` holds the outcomes that are allowed."""
        self.expected[message_id] = expected
        self._waiting.append(Message(queue, message_id, body))

    def reuse(self, queue: Queue, message_id: str, body: Any) -> None:
        """Another body under the id of a message that has its outcome."""
        self._waiting.append(Message(queue, message_id, body, reused=True))

    async def send(self) -> None:
        """Sends until `finish` is called and every submitted message is sent."""
        while self._waiting or not self._closing:
            try:
                async with self._deployment.queues() as client:
                    await self._send_from(client)
            except Exception:  # each broker raises its own, in many ways
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _send_from(self, client: QueueClient) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                await asyncio.sleep(0.02)
                continue
            message = self._waiting.popleft()
            sending = self._deployment.sending[message.queue]
            if sending.locked():
                self._waiting.append(message)
                await asyncio.sleep(0.02)
                continue
            try:
                async with asyncio.timeout(_SEND_SECONDS), sending:
                    await client.send(message.queue, message.body, message.id)
            except BaseException:
                self._waiting.append(message)
                raise
            self._confirmed(message)

    def _confirmed(self, message: Message) -> None:
        (self.reused if message.reused else self.published)[message.queue].add(message.id)
        if random.random() < _TWICE and not self._closing:
            self.repeats += 1
            self._waiting.append(message)

    def finish(self) -> None:
        self._closing = True
