"""The contract of a message broker. RabbitMQ and Valkey streams implement it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.queues import Queue

# The limit of one exchange: the client libraries wait for ever for a broker that is frozen or in
# alarm.
PUBLISH_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Delivery:
    """A received message. `message_id` is None if its sender set none. `redelivered` means that an
    earlier delivery was not acknowledged."""

    queue: Queue
    body: bytes
    message_id: str | None
    redelivered: bool
    reply_to: str
    correlation_id: str
    # The broker's own form of it, with all properties and headers.
    original: Any = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to publish, durably."""

    queue: str
    body: bytes
    message_id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    reply_to: str | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in `<queue>.dead`. `properties` are those that its sender set, `headers` the
    sender's and ours. It stays there until `remove` is called, which raises Unavailable."""

    message_id: str
    body: bytes
    properties: Mapping[str, str]
    headers: Mapping[str, str]
    original: Any
    remove: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """`letters` are oldest first, `count` of them at most: those that come later are not among
    them. Only a page of them is in memory. Raises Unavailable."""

    count: int
    letters: AsyncIterator[DeadLetter]


@dataclass(frozen=True, slots=True)
class QueueState:
    """`messages` wait. None: this broker cannot tell how many consumers there are, or how old the
    oldest message is, in seconds."""

    messages: int
    consumers: int | None = None
    oldest: float | None = None


# Returns when the delivery may be acknowledged; while it has not, the delivery is held.
Receiver = Callable[[Delivery], Awaitable[None]]
ReplyReceiver = Callable[[bytes], None]


class Broker(ABC):
    """Consumers and the publisher have a connection each: a blocked publisher must not hold up
    acknowledgements."""

    place: str
    """Where it is, for people."""

    @abstractmethod
    def consuming(
        self, prefetch: Mapping[Queue, int], receiver: Receiver
    ) -> AbstractAsyncContextManager[None]:
        """Deliver until the context ends, at most `prefetch` messages of each queue at once. Then
        give running receivers 8 s to finish; what they leave is delivered again. Waits at its start
        until the broker answers.

        A queue that cannot be consumed keeps no other waiting, and is tried for ever."""

    @property
    @abstractmethod
    def troubles(self) -> Mapping[Queue, str]:
        """The queues that this process should consume and cannot, and why. Costs nothing."""

    @property
    @abstractmethod
    def refused(self) -> Mapping[str, str]:
        """The queues that the broker refused at the last `ping`, and why. Costs nothing."""

    @abstractmethod
    async def states(self, *further: str) -> Mapping[str, QueueState]:
        """Of our queues, those of dead letters, and `further` ones, if they exist. Raises
        Unavailable, within a few seconds."""

    @abstractmethod
    async def publish(self, message: Outgoing) -> None:
        """Return when the broker has confirmed that it keeps the message. Raises Unavailable after
        5 s, or 10 s if RabbitMQ's queues must be declared first: then the message may or may not
        have arrived."""

    @abstractmethod
    async def reply(self, delivery: Delivery, body: bytes) -> None:
        """One attempt of 5 s to send the sender a reply. If the broker or `reply_to` is to blame,
        the failure is logged and not raised."""

    @abstractmethod
    def replies(self, receiver: ReplyReceiver) -> AbstractAsyncContextManager[str]:
        """Receive replies until the context ends. Its value is the `reply_to` to put into messages.
        Raises Unavailable if the broker does not answer within 5 s."""

    @abstractmethod
    async def drop_dead(self, before: datetime) -> None:
        """Drop the dead letters and dead tasks from before that moment. Raises Unavailable."""

    @abstractmethod
    async def drop_reports(self, before: datetime) -> None:
        """Drop the reports from before that moment that nobody has taken, where nothing else bounds
        their queue. Raises Unavailable."""

    @abstractmethod
    async def bury(self, delivery: Delivery, why: Mapping[str, str]) -> None:
        """Publish the delivery into `<queue>.dead`, with the body, properties and headers that it
        has, and `why` beside its headers. Raises Unavailable, as `publish` does."""

    @abstractmethod
    def dead_letters(self, queue: Queue) -> AbstractAsyncContextManager[DeadLetters]:
        """What `<queue>.dead` holds now. Raises Unavailable."""

    @abstractmethod
    async def retry(self, queue: Queue, letter: DeadLetter) -> str:
        """Publish the letter as its sender did. Returns its message id: a letter without one gets
        one. Raises Unavailable, as `publish` does."""

    @abstractmethod
    async def ping(self) -> None:
        """Raises Unavailable unless the broker answers within 1 s that it takes messages."""

    @abstractmethod
    async def close(self) -> None:
        """Close the publisher. A frozen RabbitMQ is left behind after 5 s."""
