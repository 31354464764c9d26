"""The queues, and what becomes of a message."""

from enum import StrEnum
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from app.schemas.types import DateTimeOutput, IdOutput, View


class Queue(StrEnum):
    PRODUCT = "product"
    PRODUCT_UPDATE = "product_update"
    ORDER = "order"
    ORDER_UPDATE = "order_update"
    REPORT = "report"

    @property
    def dead(self) -> str:
        return f"{self.value}.dead"


# The service publishes reports; it consumes all other queues. Each needs a row of HANDLERS in
# app/consumers/handlers.py, and has a queue of dead letters.
CONSUMED = tuple(queue for queue in Queue if queue is not Queue.REPORT)


# TaskIQ's on RabbitMQ. A task is dead when it expires, or is rejected by a program of others.
TASKS, DEAD_TASKS = "taskiq", "taskiq.dead_letter"


# A reply to one of these would become a message of the service's own.
OWN_QUEUES = frozenset({*Queue, *(queue.dead for queue in Queue), TASKS, DEAD_TASKS})


# Why a message is dead whose id had come with another body before.
ID_REUSED = "id-reused"


class MessageKey(NamedTuple):
    """Which message it is. `fingerprint` is a digest of its body: another body under the same id
    is another message, and is refused."""

    queue: Queue
    message_id: str
    fingerprint: bytes


class MessageStatus(StrEnum):
    FAILING = "failing"
    APPLIED = "applied"
    REJECTED = "rejected"
    DEAD = "dead"


class MessageRead(View):
    """`result_id` is the product or order that an applied message made or changed;
    `reason`, `detail` and `facts` tell why it was rejected or is dead."""

    message_id: Annotated[str, Field(examples=["sample:order:3f9a1c07-1"])]
    queue: Annotated[Queue, Field(examples=["order"])]
    status: Annotated[MessageStatus, Field(examples=["applied"])]
    result_id: IdOutput | None = None
    reason: str | None = None
    detail: str | None = None
    facts: dict[str, Any] | None = None
    attempts: int = 0
    first_seen_at: DateTimeOutput
    finished_at: DateTimeOutput | None = None
