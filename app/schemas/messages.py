"""What becomes of a message."""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any, NamedTuple

from pydantic import Field
from pydantic_core import from_json

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


def fingerprint(body: bytes) -> bytes:
    """The same for two bodies that mean the same: a sender that sends again may write the fields in
    another order. Of what is not JSON, every byte counts."""
    try:
        body = json.dumps(from_json(body), sort_keys=True).encode()
    except (ValueError, RecursionError):
        pass
    return sha256(body).digest()


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
    message_id: Annotated[
        str,
        Field(examples=["sample:order:3f9a1c07-1"], description="the id that its sender gave it"),
    ]
    queue: Annotated[Queue, Field(examples=["order"], description="the queue that it came through")]
    status: Annotated[
        MessageStatus,
        Field(examples=["applied"], description="what became of it; `failing` is tried again"),
    ]
    result_id: Annotated[
        IdOutput | None, Field(description="the product or order that it made or changed")
    ] = None
    reason: Annotated[
        str | None, Field(description="why it was rejected or is dead, in a word for programs")
    ] = None
    detail: Annotated[str | None, Field(description="the same in a sentence for people")] = None
    facts: Annotated[
        dict[str, Any] | None, Field(description="what a rejection depends on, such as `short`")
    ] = None
    attempts: Annotated[int, Field(description="how often it failed unexpectedly")] = 0
    first_seen_at: Annotated[DateTimeOutput, Field(description="when it first arrived, in UTC")]
    finished_at: Annotated[
        DateTimeOutput | None, Field(description="when it was settled, in UTC; null until then")
    ] = None


class MessageList(View):
    messages: Annotated[
        list[MessageRead], Field(description="the messages of this page, the newest first")
    ]
    # The cursor of the next page. It is not in the body.
    next: Annotated[str | None, Field(exclude=True)] = None
