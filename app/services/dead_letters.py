import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

from app.errors import NotFound, Unavailable
from app.messaging.broker import Broker, DeadLetter
from app.queues import Queue
from app.schemas.dead_letters import DeadLetterDetail, DeadLetterList, DeadLetterRead

# A broker finds no letter by an id: those before it are read too.
MOST_READ = 1_000
SHOWN_BYTES = 64 * 1024
_SECONDS = 7


class DeadLetterService:
    """The messages in `<queue>.dead`, as in `python -m app dead`. Raises NotFound for a letter
    that is not among the 1,000 oldest, and Unavailable after 7 s."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def list(self, queue: Queue, count: int) -> DeadLetterList:
        letters: list[DeadLetterRead] = []
        async with _in_time(), self._broker.dead_letters(queue) as dead:
            async for letter in dead.letters:
                letters.append(DeadLetterRead.model_validate(_told(queue, letter)))
                if len(letters) == count:
                    break
        return DeadLetterList(letters=letters, total=dead.count)

    async def read(self, queue: Queue, letter_id: str) -> DeadLetterDetail:
        async with self._letter(queue, letter_id) as letter:
            return _detail(queue, letter)

    async def retry(self, queue: Queue, letter_id: str) -> DeadLetterDetail:
        """Send it to its queue again. A failure between that and its removal leaves it in both."""
        async with self._letter(queue, letter_id) as letter:
            await self._broker.retry(queue, letter)
            await letter.remove()
            return _detail(queue, letter)

    async def drop(self, queue: Queue, letter_id: str) -> None:
        async with self._letter(queue, letter_id) as letter:
            await letter.remove()

    @asynccontextmanager
    async def _letter(self, queue: Queue, letter_id: str) -> AsyncIterator[DeadLetter]:
        async with _in_time(), self._broker.dead_letters(queue) as dead:
            number = 0
            async for letter in dead.letters:
                if _id_of(letter) == letter_id:
                    yield letter
                    return
                if (number := number + 1) == MOST_READ:
                    break
            raise NotFound("dead letter", letter_id)


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_SECONDS):
            yield
    except TimeoutError:
        raise Unavailable("the broker takes too long") from None


def _id_of(letter: DeadLetter) -> str:
    return sha256(
        letter.message_id.encode(errors="backslashreplace") + b"\n" + letter.body
    ).hexdigest()[:32]


def _told(queue: Queue, letter: DeadLetter) -> dict[str, Any]:
    told = {name: letter.headers.get(f"x-{name}") for name in ("reason", "detail")}
    return {
        **told,
        "id": _id_of(letter),
        "queue": queue,
        "message_id": letter.message_id or None,
        "first_seen": letter.headers.get("x-first-seen"),
        "size": len(letter.body),
    }


def _detail(queue: Queue, letter: DeadLetter) -> DeadLetterDetail:
    return DeadLetterDetail.model_validate(
        {
            **_told(queue, letter),
            "properties": letter.properties,
            "headers": letter.headers,
            "body": letter.body[:SHOWN_BYTES].decode(errors="replace"),
        }
    )
