"""Messages that can never be applied, as `<queue>.dead` has them."""

from typing import Annotated

from pydantic import Field

from app.queues import Queue
from app.schemas.types import View


class DeadLetterRead(View):
    """`id` is a digest of the message's id and of what its body means. `first_seen` is null for a
    letter that was not put there by the service."""

    id: Annotated[str, Field(examples=["LETTER_ID"], description="the id of the letter")]
    queue: Annotated[Queue, Field(examples=["order"], description="the queue that it came from")]
    message_id: Annotated[str | None, Field(description="the id of the message, if it had one")]
    reason: Annotated[
        str | None, Field(examples=["decode"], description="a word for why it is dead")
    ]
    detail: Annotated[str | None, Field(description="a sentence for why it is dead")]
    first_seen: Annotated[str | None, Field(description="when the message first came")]
    size: Annotated[int, Field(examples=[1], description="bytes of the body")]


class DeadLetterDetail(DeadLetterRead):
    """`body` is its first 64 KiB as text, for people: what is not UTF-8 is replaced."""

    properties: Annotated[
        dict[str, str],
        Field(
            examples=[{"reply_to": "answers"}],
            description="the properties of the message",
        ),
    ]
    headers: Annotated[
        dict[str, str],
        Field(
            examples=[{"x-reason": "decode"}],
            description="its headers, with those that say why it is dead",
        ),
    ]
    body: Annotated[str, Field(examples=["{"], description="the beginning of its body")]


class DeadLetterList(View):
    """The oldest ones. `total` counts all that are there."""

    letters: Annotated[list[DeadLetterRead], Field(description="the letters, the oldest first")]
    total: Annotated[int, Field(examples=[1], description="how many letters there are")]


class DeadLetterQueue(View):
    queue: Annotated[Queue, Field(examples=["order"], description="the queue")]
    total: Annotated[int, Field(examples=[1], description="how many of its messages are dead")]


class DeadLetterQueues(View):
    queues: Annotated[
        list[DeadLetterQueue], Field(description="each queue that the service consumes")
    ]
