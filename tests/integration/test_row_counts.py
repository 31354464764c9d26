"""The totals of lists are kept by triggers, never counted, and never wrong."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.container import Container
from app.models.base import Base, Counted
from app.schemas.pages import PageRequest
from harness.databases import alembic, connected
from harness.invariants import broken_rules, check_invariants

_ADD = "INSERT INTO products (name, price, stock_quantity) SELECT 'Tea', 1, 0"
_ADD_SKUS = "INSERT INTO products (sku, name, price, stock_quantity) VALUES ('a', '', 1, 0)"


async def test_the_tables_of_counted_models_have_the_triggers(database_url: str) -> None:
    query = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgfoid = 'count_rows'::regproc"
    async with connected(database_url) as connection:
        triggers = Counter(row[0] for row in await connection.fetch(query))
    mappers = Base.registry.mappers
    counted = [str(m.local_table) for m in mappers if issubclass(m.class_, Counted)]
    assert triggers == dict.fromkeys(counted, 3)


async def total(container: Container) -> int:
    async with container.reading() as uow:
        return (await uow.products.list(PageRequest())).total


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT", 10),
        (_ADD, 11),
        (f"{_ADD} FROM generate_series(1, 5)", 15),
        (f"{_ADD} WHERE false", 10),
        (f"{_ADD_SKUS}; {_ADD_SKUS} ON CONFLICT (sku) DO NOTHING", 11),
        (f"{_ADD_SKUS}; {_ADD_SKUS} ON CONFLICT (sku) DO UPDATE SET price = 2", 11),
        ("DELETE FROM products WHERE id % 2 = 0", 5),
        ("DELETE FROM products WHERE id < 0", 10),
        ("DELETE FROM products", 0),
        ("UPDATE products SET price = 3", 10),
        (f"WITH gone AS (DELETE FROM products WHERE id < 4) {_ADD}", 8),
        (f"BEGIN; {_ADD}; ROLLBACK", 10),
        (f"BEGIN; {_ADD}; SAVEPOINT s; {_ADD}; ROLLBACK TO s; COMMIT", 11),
        ("TRUNCATE products CASCADE", 0),
        ("BEGIN; TRUNCATE products CASCADE; ROLLBACK", 10),
        (f"TRUNCATE products CASCADE; {_ADD}", 1),
    ],
)
async def test_the_total_is_right_after_the_statement(
    container: Container, database_url: str, statement: str, expected: int
) -> None:
    async with connected(database_url) as connection:
        await connection.execute(f"{_ADD} FROM generate_series(1, 10)")
        await connection.execute(statement)
    assert await total(container) == expected
    await check_invariants(database_url)


async def test_rows_of_a_copy_are_counted(container: Container, database_url: str) -> None:
    rows = [("Tea", 1, 0)] * 3
    async with connected(database_url) as connection:
        columns = ["name", "price", "stock_quantity"]
        await connection.copy_records_to_table("products", records=rows, columns=columns)
    assert await total(container) == 3


async def test_the_total_is_right_at_every_moment(database_url: str) -> None:
    """While twenty connections write, every snapshot has a total that equals the row count."""
    async with connected(database_url) as connection:
        await connection.execute(f"{_ADD} FROM generate_series(1, 100)")

    async def write(number: int) -> None:
        async with connected(database_url) as connection:
            for attempt in range(30):
                transaction = connection.transaction()
                await transaction.start()
                await connection.execute(f"{_ADD} FROM generate_series(1, {number % 3 + 1})")
                await connection.execute(
                    "DELETE FROM products WHERE id IN "
                    "(SELECT id FROM products ORDER BY random() LIMIT 2 FOR UPDATE SKIP LOCKED)"
                )
                await (transaction.rollback() if attempt % 3 == 0 else transaction.commit())

    writing = asyncio.gather(*(write(number) for number in range(20)))
    looks = 0
    while not writing.done():
        assert not await broken_rules(database_url)
        looks += 1
    await writing
    assert looks > 3
    await check_invariants(database_url)


async def test_writers_do_not_wait_for_each_other(database_url: str) -> None:
    async with connected(database_url) as slow, connected(database_url) as one:
        async with connected(database_url) as another, slow.transaction():
            await slow.execute(_ADD)
            quick = one if await _slot(one) != await _slot(slow) else another
            await quick.execute("SET lock_timeout = '1s'")
            await quick.execute(_ADD)


async def _slot(connection: "asyncpg.Connection[Any]") -> int:
    slot: int = await connection.fetchval("SELECT pg_backend_pid() & 127")
    return slot


async def test_rows_from_before_the_migration_are_counted(
    container: Container, database_url: str, tree: Path
) -> None:
    await alembic(database_url, tree, "downgrade", "6c2104d47cf7")
    async with connected(database_url) as connection:
        await connection.execute(f"{_ADD} FROM generate_series(1, 7)")
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.execute("SELECT FROM row_counts")
    await alembic(database_url, tree, "upgrade", "head")
    assert await total(container) == 7
    await check_invariants(database_url)
