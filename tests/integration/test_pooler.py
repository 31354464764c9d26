"""Behind PgBouncer. Debian 12 has 1.18, which keeps prepared statements in session mode alone.
From 1.21 on it keeps them in transaction mode too: that is tested where there is such a one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from app.container import Container
from app.errors import Unavailable
from app.schemas.pages import PageRequest
from app.services.users import USER
from app.settings import Settings
from harness.databases import Databases, connected
from harness.dependencies import Dependencies
from harness.invariants import check_invariants
from harness.pgbouncer import PgBouncer, keeps_prepared_statements
from harness.service import Service
from harness.shop import Shop

_LIMITS = text("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")


_MODES = [("transaction", "transaction"), ("session", "prepared")]
if keeps_prepared_statements():
    _MODES.append(("transaction", "prepared"))


@pytest.fixture(params=_MODES, ids="-".join)
def mode(request: pytest.FixtureRequest) -> tuple[str, str]:
    """PgBouncer's pool_mode, and DB_POOLER."""
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
async def pgbouncer(
    mode: tuple[str, str], database_url: str, tmp_path: Path
) -> AsyncIterator[PgBouncer]:
    async with PgBouncer(tmp_path, database_url, mode[0]) as pooler:
        yield pooler


@pytest.fixture
def settings(dependencies: Dependencies, pgbouncer: PgBouncer, mode: tuple[str, str]) -> Settings:
    return dependencies.settings(database_url=pgbouncer.url, db_pooler=mode[1])


async def test_many_reads_and_orders_at_once(
    container: Container, shop: Shop, database_url: str
) -> None:
    product = await shop.product(stock=100)
    places = asyncio.Semaphore(8)  # as over HTTP: nobody waits for the pool

    async def read() -> None:
        async with places, container.reading() as uow:
            await uow.users.list(PageRequest())
            await uow.orders.list(PageRequest())
        assert await container.caches[USER].read(shop.user_id)

    async def write() -> None:
        async with places:
            await shop.order((product, 1))

    await asyncio.gather(*(read() for _ in range(60)), *(write() for _ in range(20)))
    assert await shop.stock(product) == 80
    assert (await container.health.readiness()).parts["postgresql"] == "ok"
    await check_invariants(database_url)


async def test_each_transaction_has_its_limits_and_leaves_none(container: Container) -> None:
    async with container.database.transaction(deadline=2) as connection:
        assert tuple((await connection.execute(_LIMITS)).one()) == ("10s", "2s")
        await connection.commit()
    for _ in range(10):
        async with container.database.autocommit() as connection:
            assert tuple((await connection.execute(_LIMITS)).one()) == ("0", "0")


async def test_who_waits_for_a_row_gives_up(
    container: Container, shop: Shop, database_url: str
) -> None:
    product = await shop.product()
    async with connected(database_url) as holder, holder.transaction():
        await holder.execute("SELECT 1 FROM products WHERE id = $1 FOR UPDATE", product)
        with pytest.raises(Unavailable):
            await shop.order((product, 1))
    assert (await shop.order((product, 1))).id


async def test_reports_are_built(container: Container, shop: Shop) -> None:
    await shop.order((await shop.product(), 1))
    async with container.unit_of_work() as uow:
        assert (await uow.reports.build(uow.reports.today())).created == 1


async def test_migrations_go_through(
    mode: tuple[str, str], databases: Databases, tree: Path, tmp_path: Path
) -> None:
    async with (
        databases.fresh(template="template1") as empty,
        PgBouncer(tmp_path, empty, mode[0]) as pooler,
        Service(tree, tmp_path, {"DATABASE_URL": pooler.url, "DB_POOLER": mode[1]}) as service,
    ):
        for _ in range(2):
            await service.script("-m", "alembic", "-c", "app/alembic.ini", "upgrade", "head")


async def test_without_the_setting_one_line_names_it(
    dependencies: Dependencies, pgbouncer: PgBouncer
) -> None:
    settings = dependencies.settings(database_url=pgbouncer.url)
    async with Container.open(settings) as container:
        with pytest.raises(Unavailable, match="PgBouncer.*DB_POOLER"):
            await container.database.ping()


@pytest.mark.skipif(keeps_prepared_statements(), reason="this PgBouncer keeps them")
async def test_with_the_wrong_setting_one_line_names_the_right_one(
    dependencies: Dependencies, database_url: str, tmp_path: Path
) -> None:
    async with PgBouncer(tmp_path, database_url, "transaction") as pooler:
        settings = dependencies.settings(database_url=pooler.url, db_pooler="prepared")
        async with Container.open(settings) as container:

            async def read() -> None:
                for _ in range(20):
                    await container.database.ping()

            with pytest.raises(Unavailable, match="DB_POOLER=transaction"):
                await asyncio.gather(*(read() for _ in range(20)))
