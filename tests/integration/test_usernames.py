"""Two usernames are the same if a reader takes them for one, whoever wrote the rows."""

import asyncio
import logging
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest
from alembic import command
from alembic.config import Config

from app.settings import ROOT
from harness.databases import Databases, address_of, connected

_BEFORE = "b1f0a6d3c5e2"
# NFC and NFD, case, width, ligature, ß, an unseen joiner; the first of each is stored.
SAME = [
    ("Zo\u00eb", "ZOE\u0308"),
    ("Stra\u00dfe", "STRASSE"),
    ("admin", "\uff21dmin"),
    ("office", "o\ufb03ce"),
    ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u062e"),
    ("\u2764\ufe0f", "\u2764"),
    ("\u03c3\u03bf\u03c6\u03cc\u03c2", "\u03a3\u039f\u03a6\u039f\u0301\u03a3"),
]


def body(username: str, email: str) -> dict[str, str]:
    return {"username": username, "email": f"{email}@example.com"}


@pytest.mark.parametrize(("first", "second"), SAME)
async def test_names_that_look_the_same_are_taken(
    client: httpx.AsyncClient, first: str, second: str
) -> None:
    made = await client.post("/users", json=body(first, "first"))
    assert (made.status_code, made.json()["username"]) == (201, first)
    again = await client.post("/users", json=body(second, "second"))
    assert (again.status_code, again.json()["facts"]) == (400, {"field": "username"})
    other = (await client.post("/users", json=body("other", "other"))).json()["id"]
    assert (await client.put(f"/users/{other}", json={"username": second})).status_code == 400
    own = f"/users/{made.json()['id']}"
    for name in (second, first):  # a user may change how the own name is written
        assert (await client.put(own, json={"username": name})).status_code == 200
    assert (await client.put(f"/users/{other}", json={"username": second})).status_code == 400
    assert (await client.put(own, json={"username": "new"})).status_code == 200
    assert (await client.put(f"/users/{other}", json={"username": second})).status_code == 200


async def test_a_name_is_stored_composed(client: httpx.AsyncClient) -> None:
    made = await client.post("/users", json=body("Zoe\u0308", "zoe"))
    assert made.json()["username"] == "Zo\u00eb"


async def test_rows_of_other_programs_have_keys_too(
    client: httpx.AsyncClient, database_url: str
) -> None:
    async with connected(database_url) as connection:
        insert = "INSERT INTO users (username, email) VALUES ($1, $2)"
        await connection.execute(insert, "Jane", "jane")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(insert, "\uff2aane", "other")
        await connection.execute("UPDATE users SET username = 'June'")
    assert (await client.post("/users", json=body("JUNE", "june"))).status_code == 400
    assert (await client.post("/users", json=body("jane", "jane"))).status_code == 201


@pytest.fixture
async def old_url(databases: Databases) -> AsyncIterator[str]:
    """A database from before the keys."""
    async with databases.fresh(template="template1") as url:
        await asyncio.to_thread(command.upgrade, _config(url), _BEFORE)
        yield url


def _config(url: str) -> Config:
    config = Config(ROOT / "app/alembic.ini")
    config.attributes["address"] = address_of(url)
    return config


async def test_the_migration_tells_of_clashes_and_keeps_the_rows(
    old_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["zo\u00eb", "plain", "zoe\u0308", "a\u200bb", "ab", "\uff21B"]
    async with connected(old_url) as connection:
        insert = "INSERT INTO users (username, email) VALUES ($1, $1)"
        await connection.executemany(insert, [(name,) for name in names])
        await connection.execute(_ORDERS)
        with caplog.at_level(logging.WARNING):
            await asyncio.to_thread(command.upgrade, _config(old_url), "head")
        rows = await connection.fetch("SELECT username, username_key FROM users ORDER BY id")
        orders = await connection.fetch("SELECT external_id FROM orders ORDER BY id")
    assert [row[0] for row in rows] == names
    assert [row[1] for row in rows] == ["zo\u00eb", "plain", "zo\u00eb\n3", "ab", "ab\n5", "ab\n6"]
    assert [row[0] for row in orders] == ["\u00eb1", "e\u03081", "\u00eb2"]
    told = "\n".join(record.getMessage() for record in caplog.records)
    for younger, eldest in ((3, 1), (5, 4), (6, 4)):
        assert f"user {younger} now counts as the same as that of user {eldest}" in told
    assert "external_id of row 2 of orders" in told


_ORDERS = """
INSERT INTO addresses (user_id, street, city, country) VALUES (1, 's', 'c', 'c');
INSERT INTO orders (user_id, delivery_address_id, external_id)
VALUES (1, 1, U&'\\00EB1'), (1, 1, U&'e\\03081'), (1, 1, U&'e\\03082');
"""


async def test_a_user_with_a_clash_can_be_read_and_changed(
    client: httpx.AsyncClient, database_url: str
) -> None:
    async with connected(database_url) as connection:
        insert = "INSERT INTO users (username, email, username_key) VALUES ($1, $2, $3)"
        await connection.execute(insert, "zo\u00eb", "a@b.de", "zo\u00eb")
        await connection.execute(insert, "zoe\u0308", "b@b.de", "zo\u00eb\n2")
    user = (await client.get("/users/2")).json()
    same = {name: user[name] for name in ("username", "email", "description")}
    assert (await client.put("/users/2", json=same)).status_code == 200
    assert (await client.put("/users/2", json={"description": "x"})).status_code == 200
    assert (await client.post("/users", json=body("Zo\u00eb", "c"))).status_code == 400
    assert (await client.put("/users/2", json={"username": "new"})).status_code == 200
    assert (await client.put("/users/2", json={"username": "zo\u00eb"})).status_code == 400
