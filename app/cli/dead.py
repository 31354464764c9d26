"""`dead`: look at the messages that could not be applied, send them again or drop them."""

import json

from app.cli.configured import failures_in_one_line, with_queues
from app.messaging.broker import Broker, DeadLetter
from app.messaging.opening import open_broker
from app.queues import Queue
from app.settings import Settings

_DONE = {"list": "listed", "show": "shown", "retry": "sent again", "drop": "dropped"}


async def run(settings: Settings, action: str, queue: Queue, wanted: str | None) -> None:
    """`wanted` is a message id, a number from the list, or `all`; `list` ignores it. Raises
    SystemExit with one line for the operator."""
    if action != "list" and wanted is None:
        raise SystemExit(f"which message? dead {action} {queue} MESSAGE, or `all`")
    with failures_in_one_line("dead"):
        broker = open_broker(with_queues(settings))
        try:
            print(f"{queue.dead} on {broker.place}")
            await _act_on_all(broker, action, queue, "all" if action == "list" else wanted)
        finally:
            await broker.close()


async def _act_on_all(broker: Broker, action: str, queue: Queue, wanted: str | None) -> None:
    done = 0
    async with broker.dead_letters(queue) as dead:
        try:
            number = 0
            async for letter in dead.letters:
                number += 1
                if wanted in (letter.message_id, str(number), "all"):
                    _print(number, letter)
                    await _act(broker, action, queue, letter)
                    done += 1
        finally:  # also if the broker goes away in the middle
            print(f"{done} of {dead.count} in {queue.dead} {_DONE[action]}")


def _print(number: int, letter: DeadLetter) -> None:
    headers = letter.headers
    print(f"{number:>4}  {letter.message_id or '(no id)'}  {headers.get('x-reason')}", end="  ")
    print(f"{headers.get('x-detail', '')!r}  first seen {headers.get('x-first-seen')}")


async def _act(broker: Broker, action: str, queue: Queue, letter: DeadLetter) -> None:
    if action == "show":
        described = {"properties": dict(letter.properties), "headers": dict(letter.headers)}
        print(json.dumps(described, indent=2), repr(letter.body), sep="\n")
    if action == "retry":
        # Confirmed before the letter is removed; a failure in between leaves both, not none.
        await broker.retry(queue, letter)
    if action in ("retry", "drop"):
        await letter.remove()
