"""What becomes of a message."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from app.queues import Queue
from app.schemas.types import DateTimeOutput, IdOutput, View

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


@dataclass(frozen=True)
class MessageFilters:
    """None is no filter. The times are those at which a message was first seen."""

    id: str | None = None
    queue: Queue | None = None
    status: MessageStatus | None = None
    reason: str | None = None
    seen_from: datetime | None = None
    seen_before: datetime | None = None


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


class MessageList(View):
    """The newest first."""

    messages: list[MessageRead]
    # The cursor of the next page. It is not in the body.
    next: Annotated[str | None, Field(exclude=True)] = None
