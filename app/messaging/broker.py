"""What the service needs of a message broker. RabbitMQ and Valkey streams implement it."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

from app.schemas.messages import Queue

# Bounds a publish: under an alarm or a frozen broker the client library waits for ever.
PUBLISH_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Delivery:
    """A received message. `message_id` is None unless its sender set one."""

    queue: Queue
    body: bytes
    message_id: str | None
    redelivered: bool
    reply_to: str
    correlation_id: str
    headers: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outgoing:
    queue: str
    body: bytes
    message_id: str
    headers: Mapping[str, str] = field(default_factory=dict)
    reply_to: str | None = None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    message_id: str
    body: bytes
    headers: Mapping[str, str]
    remove: Callable[[], Awaitable[None]]


# Returns when the delivery may be acknowledged; while it has not, the delivery is held.
Receiver = Callable[[Delivery], Awaitable[None]]
ReplyReceiver = Callable[[bytes], None]


class Broker(ABC):
    """Consumers and publisher have a connection each: a blocked publisher must not stop acks."""

    @abstractmethod
    def consuming(
        self, prefetch: Mapping[Queue, int], receiver: Receiver
    ) -> AbstractAsyncContextManager[None]:
        """Deliver until the context ends, of each queue so many at once; then let running receivers
        finish, for a while."""

    @abstractmethod
    async def publish(self, message: Outgoing) -> None:
        """Return when the broker has confirmed it durably, or raise `Unavailable`: then it may
        or may not have arrived."""

    @abstractmethod
    async def reply(self, delivery: Delivery, body: bytes) -> None:
        """One attempt to tell the sender; a failure is the sender's loss and is not raised."""

    @abstractmethod
    def replies(self, receiver: ReplyReceiver) -> AbstractAsyncContextManager[str]:
        """Receive what consumers reply, until the context ends. Its value is the `reply_to` that
        leads here; raises `Unavailable`."""

    @abstractmethod
    def dead_letters(
        self, queue: Queue, most: int
    ) -> AbstractAsyncContextManager[Sequence[DeadLetter]]:
        """What lies in `<queue>.dead`, oldest first; what is not removed stays there."""

    @abstractmethod
    async def ping(self) -> None:
        """Raise `Unavailable` unless the broker answers within a second."""

    @abstractmethod
    async def close(self) -> None: ...
