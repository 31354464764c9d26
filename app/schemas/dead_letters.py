"""Messages that can never be applied, as `<queue>.dead` has them."""

from typing import Annotated

from pydantic import Field

from app.queues import Queue
from app.schemas.types import View


class DeadLetterRead(View):
    """`id` is a digest of the message's id and body. `first_seen` is null for a letter that was not
    put there by the service."""

    id: Annotated[str, Field(examples=["LETTER_ID"])]
    queue: Annotated[Queue, Field(examples=["order"])]
    message_id: str | None
    reason: Annotated[str | None, Field(examples=["decode"])]
    detail: str | None
    first_seen: str | None
    size: Annotated[int, Field(examples=[1], description="bytes of the body")]


class DeadLetterDetail(DeadLetterRead):
    """`body` is its first 64 KiB as text, for people: what is not UTF-8 is replaced."""

    properties: Annotated[dict[str, str], Field(examples=[{"reply_to": "answers"}])]
    headers: Annotated[dict[str, str], Field(examples=[{"x-reason": "decode"}])]
    body: Annotated[str, Field(examples=["{"])]


class DeadLetterList(View):
    """The oldest ones. `total` counts all that are there."""

    letters: list[DeadLetterRead]
    total: Annotated[int, Field(examples=[1])]
