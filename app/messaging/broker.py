"""The contract of a message broker. RabbitMQ and Valkey streams implement it."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from app.schemas.messages import Queue

# The limit of a publish: while a broker is frozen or in alarm, the client libraries wait for ever.
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
    headers: Mapping[str, object] = field(default_factory=dict)


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
    """A message in `<queue>.dead`. It stays there until `remove` is called."""

    message_id: str
    body: bytes
    headers: Mapping[str, str]
    remove: Callable[[], Awaitable[None]]


# Returns when the delivery may be acknowledged; while it has not, the delivery is held.
Receiver = Callable[[Delivery], Awaitable[None]]
ReplyReceiver = Callable[[bytes], None]


class Broker(ABC):
    """Consumers and the publisher have a connection each: a blocked publisher must not hold up
    acknowledgements."""

    @abstractmethod
    def consuming(
        self, prefetch: Mapping[Queue, int], receiver: Receiver
    ) -> AbstractAsyncContextManager[None]:
        """Deliver until the context ends, at most `prefetch` messages of each queue at once. Then
        give running receivers a few seconds to finish. Waits at its start until the broker answers.

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
    async def publish(self, message: Outgoing) -> None:
        """Return when the broker has confirmed that it keeps the message. Raises Unavailable after
        PUBLISH_SECONDS at most: then the message may or may not have arrived."""

    @abstractmethod
    async def reply(self, delivery: Delivery, body: bytes) -> None:
        """One attempt to send the sender a reply. A failure is logged and not raised."""

    @abstractmethod
    def replies(self, receiver: ReplyReceiver) -> AbstractAsyncContextManager[str]:
        """Receive replies until the context ends. Its value is the `reply_to` to put into messages.
        Raises Unavailable."""

    @abstractmethod
    def dead_letters(
        self, queue: Queue, most: int
    ) -> AbstractAsyncContextManager[Sequence[DeadLetter]]:
        """At most `most` messages of `<queue>.dead`, oldest first. Raises Unavailable."""

    @abstractmethod
    async def ping(self) -> None:
        """Raises Unavailable unless the broker answers within a second."""

    @abstractmethod
    async def close(self) -> None: ...
