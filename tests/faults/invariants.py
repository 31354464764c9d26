"""What must be true after every fault: one function for each promise."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from app.queues import CONSUMED, Queue
from app.schemas.messages import ID_REUSED
from harness.databases import connected
from harness.invariants import check_invariants
from harness.queues import QueueClient, Received

_TWICE_REPORTED = """
    SELECT report_at, order_id FROM reports GROUP BY 1, 2 HAVING count(*) > 1
"""

_EXTERNAL_IDS = "SELECT external_id FROM orders WHERE external_id IS NOT NULL"


async def check_database(url: str, postgres_log: str) -> None:
    await check_stock_ledger(url)
    check_no_constraint_fired(postgres_log)
    await check_reported_once(url)


async def check_stock_ledger(url: str) -> None:
    """The stock is the sum of its movements and never negative; every order is complete."""
    await check_invariants(url)


def check_no_constraint_fired(postgres_log: str) -> None:
    """The CHECKs are the last line of defence: the code must never let a violation get to them."""
    fired = [line for line in postgres_log.splitlines() if "violates check constraint" in line]
    assert not fired, fired[:5]


async def check_reported_once(url: str) -> None:
    """No order is reported twice for one day."""
    async with connected(url) as connection:
        assert not await connection.fetch(_TWICE_REPORTED)


async def check_exactly_once(
    url: str,
    queues: QueueClient,
    published: Mapping[Queue, Iterable[str]],
    reused: Mapping[Queue, Iterable[str]] | None = None,
) -> dict[str, str]:
    """Every message is applied, rejected or dead, and none waits. What came with another body under
    a `reused` id is dead, and its first outcome stays. Returns the outcomes by id."""
    async with connected(url) as connection:
        rows = await connection.fetch("SELECT queue, message_id, status FROM messages")
    inbox = {(row["queue"], row["message_id"]): row["status"] for row in rows}
    for queue in CONSUMED:
        settled = {id for (name, id), status in inbox.items() if name == queue and status != "dead"}
        letters = await take_all(queues, queue.dead)
        others = [letter for letter in letters if letter.headers.get("x-reason") == ID_REUSED]
        dead = {letter.message_id for letter in letters if letter not in others}
        assert {letter.message_id for letter in others} == set((reused or {}).get(queue, ()))
        sent = set(published.get(queue, ()))
        assert settled | dead == sent, {"lost": sent - settled - dead, "more": settled - sent}
        assert not settled & dead
        waiting = await queues.count(queue)
        assert not waiting, f"{waiting} messages are left in {queue}"
    assert "failing" not in inbox.values()
    return {id: status for (_, id), status in inbox.items()}


async def take_all(queues: QueueClient, queue: str) -> list[Received]:
    found = []
    while letter := await queues.poll(queue):
        found.append(letter)
    return found


async def check_report_messages(url: str, messages: Iterable[Received]) -> None:
    """Every run part was sent in a message at least once, and each message matches the rows."""
    async with connected(url) as connection:
        rows = await connection.fetch("SELECT id, order_id, report_at::text FROM reports")
        runs = await connection.fetch("SELECT report_date::text, batches FROM report_runs")
        assert not await connection.fetch("SELECT FROM outbox"), "the outbox is not empty"
    bodies = {message.message_id: message.json for message in messages}
    sent = [(r["report_id"], r["order_id"], r["report_at"]) for r in _reports(bodies.values())]
    assert sorted(sent) == sorted(tuple(row) for row in rows)
    for day, parts in runs:
        ids = {f"report:{day}:{number}" for number in range(1, parts + 1)}
        assert ids <= bodies.keys(), (ids, bodies.keys())
    for body in bodies.values():
        assert body["reports_count"] == len(body["reports"])


def _reports(bodies: Iterable[Any]) -> list[dict[str, Any]]:
    return [report for body in bodies for report in body["reports"]]


async def check_acknowledged(url: str, external_ids: Iterable[str]) -> None:
    """No order whose 201 or ack was seen is missing, and none exists twice."""
    async with connected(url) as connection:
        rows = await connection.fetch(_EXTERNAL_IDS)
    present = [row[0] for row in rows]
    assert len(present) == len(set(present))
    missing = set(external_ids) - set(present)
    assert not missing, json.dumps(sorted(missing))
