import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from app.database import Database
from app.errors import NotFound, Unavailable
from app.messaging.broker import Broker, DeadLetter, DeadLetters
from app.queues import CONSUMED, Queue
from app.repositories.messages import MessageRepository
from app.schemas.dead_letters import (
    DeadLetterDetail,
    DeadLetterList,
    DeadLetterQueue,
    DeadLetterQueues,
    DeadLetterRead,
)
from app.schemas.messages import MessageRead, MessageStatus, fingerprint

# A broker finds no letter by an id: those before it are read too.
MOST_READ = 1_000
SHOWN_BYTES = 64 * 1024
_SECONDS = 7
_MOST_LOOKING = 4
# How long to wait for what becomes of a retried letter, and between two looks.
_OUTCOME_SECONDS, _LOOK_SECONDS = 3.0, 0.3


@dataclass(frozen=True)
class Retried:
    """What became of a letter that was sent again: it is dead again, or has another outcome, or
    nothing is known yet."""

    letter: DeadLetterDetail | None
    message: MessageRead | None


class DeadLetterService:
    """The messages in `<queue>.dead`, as in `python -m app dead`. Raises NotFound for a letter
    that is not among the 1,000 oldest, and Unavailable after 7 s."""

    def __init__(self, broker: Broker, database: Database) -> None:
        self._broker = broker
        self._database = database
        self._turns: dict[Queue, asyncio.Lock] = {queue: asyncio.Lock() for queue in CONSUMED}
        self._looking: Counter[Queue] = Counter()

    async def count(self) -> DeadLetterQueues:
        async with _in_time():
            states = await self._broker.states()
        totals = {queue: states[queue.dead].messages for queue in CONSUMED if queue.dead in states}
        queues = [DeadLetterQueue(queue=queue, total=totals.get(queue, 0)) for queue in CONSUMED]
        return DeadLetterQueues(queues=queues)

    async def list(self, queue: Queue, count: int) -> DeadLetterList:
        letters: list[DeadLetterRead] = []
        async with self._look(queue) as dead:
            async for letter in dead.letters:
                letters.append(DeadLetterRead.model_validate(_told(queue, letter)))
                if len(letters) == count:
                    break
        return DeadLetterList(letters=letters, total=dead.count)

    async def read(self, queue: Queue, letter_id: str) -> DeadLetterDetail:
        async with self._letter(queue, letter_id) as letter:
            return _detail(queue, letter)

    async def retry(self, queue: Queue, letter_id: str) -> DeadLetterDetail:
        """Send it to its queue again: returned as it was sent, with a message id. A failure between
        that and its removal leaves it in both."""
        async with self._letter(queue, letter_id) as letter:
            message_id = await self._broker.retry(queue, letter)
            await letter.remove()
            return _detail(queue, replace(letter, message_id=message_id))

    async def retried(self, queue: Queue, letter_id: str, message_id: str) -> Retried:
        """What became of the letter with this id, which was sent again as this message. Waits for
        it for 3 s."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _OUTCOME_SECONDS
        while True:
            found = await self._found(queue, letter_id, message_id)
            if found.letter or found.message or loop.time() > end:
                return found
            await asyncio.sleep(_LOOK_SECONDS)

    async def _found(self, queue: Queue, letter_id: str, message_id: str) -> Retried:
        async with self._database.autocommit(_SECONDS) as connection:
            row = await MessageRepository(connection).find(queue, message_id)
        # Another body may have this message id, and an outcome: then the letter dies again. A row
        # that says dead may be older than the retry.
        is_same = row and row.fingerprint and _id_of(row.message_id, row.fingerprint) == letter_id
        if row and is_same and row.status != MessageStatus.DEAD:
            return Retried(None, MessageRead.of(row))
        try:
            return Retried(await self.read(queue, letter_id), None)
        except NotFound:
            return Retried(None, None)

    async def drop(self, queue: Queue, letter_id: str) -> None:
        async with self._letter(queue, letter_id) as letter:
            await letter.remove()

    @asynccontextmanager
    async def _letter(self, queue: Queue, letter_id: str) -> AsyncIterator[DeadLetter]:
        async with self._look(queue) as dead:
            number = 0
            async for letter in dead.letters:
                if _letter_id(letter) == letter_id:
                    yield letter
                    return
                if (number := number + 1) == MOST_READ:
                    break
            raise NotFound("dead letter", letter_id)

    @asynccontextmanager
    async def _look(self, queue: Queue) -> AsyncIterator[DeadLetters]:
        """One at a time in this process: RabbitMQ hides from all others what somebody has read. A
        broker that is slow gathers no crowd."""
        if self._looking[queue] == _MOST_LOOKING:
            raise Unavailable(f"others look at {queue.dead} already")
        self._looking[queue] += 1
        try:
            async with _in_time(), self._turns[queue], self._broker.dead_letters(queue) as dead:
                yield dead
        finally:
            self._looking[queue] -= 1


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_SECONDS):
            yield
    except TimeoutError:
        raise Unavailable("the broker takes too long") from None


def _letter_id(letter: DeadLetter) -> str:
    return _id_of(letter.message_id, fingerprint(letter.body))


def _id_of(message_id: str, body: bytes) -> str:
    """The same for a letter and for the row of the inbox that tells of the same message."""
    return sha256(message_id.encode(errors="backslashreplace") + b"\n" + body).hexdigest()[:32]


def _told(queue: Queue, letter: DeadLetter) -> dict[str, Any]:
    told = {name: letter.headers.get(f"x-{name}") for name in ("reason", "detail")}
    return {
        **told,
        "id": _letter_id(letter),
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
