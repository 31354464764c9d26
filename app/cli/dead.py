"""`dead`: look at the messages that could not be applied, send them again or drop them."""

import json
import uuid

from app.client.errors import CliError
from app.client.stack import running_stack
from app.errors import Unavailable
from app.messaging.broker import Broker, DeadLetter, Outgoing
from app.messaging.opening import open_broker
from app.schemas.messages import Queue
from app.settings import Settings


async def run(settings: Settings, action: str, queue: Queue, wanted: str | None) -> None:
    """`wanted` is a message id, a number from the list, or `all`; `list` ignores it. Raises
    SystemExit with one line for the operator."""
    if action != "list" and wanted is None:
        raise SystemExit(f"which message? dead {action} {queue} MESSAGE, or `all`")
    try:
        broker = open_broker(running_stack(settings))
        try:
            await _act_on_all(broker, action, queue, "all" if action == "list" else wanted)
        finally:
            await broker.close()
    except (CliError, Unavailable) as error:
        raise SystemExit(f"dead: {error}") from None


async def _act_on_all(broker: Broker, action: str, queue: Queue, wanted: str | None) -> None:
    async with broker.dead_letters(queue, most=1000) as letters:
        chosen = [
            (number, letter)
            for number, letter in enumerate(letters, 1)
            if wanted in (letter.message_id, str(number), "all")
        ]
        for number, letter in chosen:
            _print(number, letter)
            await _act(broker, action, queue, letter)
    print(f"{len(chosen)} of {len(letters)} in {queue.dead}")


def _print(number: int, letter: DeadLetter) -> None:
    headers = letter.headers
    print(f"{number:>4}  {letter.message_id or '(no id)'}  {headers.get('x-reason')}", end="  ")
    print(f"{headers.get('x-detail', '')!r}  first seen {headers.get('x-first-seen')}")


async def _act(broker: Broker, action: str, queue: Queue, letter: DeadLetter) -> None:
    if action == "show":
        print(json.dumps(dict(letter.headers), indent=2), repr(letter.body), sep="\n")
    if action == "retry":
        # Confirmed before the letter is removed; a failure in between leaves both, not none.
        await broker.publish(Outgoing(queue, letter.body, letter.message_id or uuid.uuid4().hex))
    if action in ("retry", "drop"):
        await letter.remove()
