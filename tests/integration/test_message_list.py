"""GET /messages: what came in, the newest first."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from harness.databases import connected

START = datetime(2025, 1, 1, tzinfo=UTC)
MESSAGES = [
    # queue, id, status, reason, minutes after START
    ("order", "a", "applied", None, 0),
    ("order", "b", "rejected", "out-of-stock", 1),
    ("order", "c", "dead", "decode", 1),
    ("product", "c", "applied", None, 1),
    ("product", "d", "dead", "validation", 2),
    ("order_update", "e", "failing", "failure", 3),
]


@pytest.fixture(autouse=True)
async def _messages(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.executemany(
            "INSERT INTO messages (queue, message_id, status, reason, first_seen_at)"
            " VALUES ($1, $2, $3, $4, $5)",
            [(*row[:4], START + timedelta(minutes=row[4])) for row in MESSAGES],
        )


async def _found(client: httpx.AsyncClient, **parameters: Any) -> list[str]:
    """All of them, page after page, as queue and id."""
    found: list[str] = []
    response = await client.get("/messages", params={"count": 2, **parameters})
    while True:
        assert response.status_code == 200, response.text
        found += [f"{m['queue']}:{m['message_id']}" for m in response.json()["messages"]]
        if not (following := response.links.get("next")):
            return found
        response = await client.get(following["url"])


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "order_update:e product:d product:c order:c order:b order:a"),
        ({"id": "c"}, "product:c order:c"),
        ({"queue": "order"}, "order:c order:b order:a"),
        ({"status": "dead"}, "product:d order:c"),
        ({"status": "applied", "queue": "product"}, "product:c"),
        ({"reason": "out-of-stock"}, "order:b"),
        ({"reason": "out-of-stock", "status": "dead"}, ""),
        ({"seen_from": "2025-01-01T00:02:00Z"}, "order_update:e product:d"),
        ({"seen_from": "2025-01-01T00:01:00Z", "seen_before": "2025-01-01T00:02:00Z"},
         "product:c order:c order:b"),
        ({"status": "failing"}, "order_update:e"),
    ],
)  # fmt: skip
async def test_filters(client: httpx.AsyncClient, parameters: Any, expected: str) -> None:
    assert " ".join(await _found(client, **parameters)) == expected


async def test_a_cursor_is_for_its_filters(client: httpx.AsyncClient) -> None:
    link = (await client.get("/messages?count=1&queue=order")).links["next"]["url"]
    assert (await client.get(link.replace("queue=order", "queue=product"))).status_code == 422


@pytest.mark.parametrize("query", ["queue=x", "status=pending", "reason=", "page=1"])
async def test_what_is_wrong_is_said(client: httpx.AsyncClient, query: str) -> None:
    response = await client.get(f"/messages?{query}")
    (error,) = response.json()["errors"]
    assert (response.status_code, error["field"]) == (422, query.partition("=")[0])


@pytest.mark.parametrize("query", ["status = 'dead'", "reason = $1 AND status <> 'applied'"])
async def test_those_that_were_not_applied_have_an_index(database_url: str, query: str) -> None:
    """Whatever the plan: it is made without the values."""
    async with connected(database_url) as connection:
        await connection.execute("SET enable_seqscan = off")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        parameter = "(text)" if "$1" in query else ""
        await connection.execute(
            f"PREPARE page{parameter} AS SELECT * FROM messages WHERE {query} "
            "ORDER BY first_seen_at DESC, message_id DESC, queue DESC LIMIT 11"
        )
        given = "('x')" if parameter else ""
        plan = await connection.fetch(f"EXPLAIN EXECUTE page{given}")
    text = "\n".join(row[0] for row in plan)
    assert "ix_messages_not_applied" in text
