"""A database of somebody else: a schema that is not public, and a role that may not create."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.container import Container
from app.settings import Settings
from harness.databases import Databases, alembic, connected
from harness.dependencies import Dependencies
from harness.shop import Shop

_OWNER, _USER = "shop_owner", "shop_user"
_SCHEMA = "shop"


@pytest.fixture
async def database_url(databases: Databases, tree: Path) -> AsyncIterator[str]:
    """Migrated by its owner into a schema of its own, and used by a role that may read and write
    rows, and nothing else."""
    async with databases.fresh(template="template1") as url:
        async with connected(databases.admin_url(url)) as operator:
            for role in (_OWNER, _USER):
                if not await operator.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                    await operator.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
            await operator.execute(f"""
                REVOKE ALL ON SCHEMA public FROM PUBLIC;
                CREATE SCHEMA {_SCHEMA} AUTHORIZATION {_OWNER};
                GRANT USAGE ON SCHEMA {_SCHEMA} TO {_USER};
                ALTER DEFAULT PRIVILEGES FOR ROLE {_OWNER} IN SCHEMA {_SCHEMA}
                    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {_USER};
                ALTER DEFAULT PRIVILEGES FOR ROLE {_OWNER} IN SCHEMA {_SCHEMA}
                    GRANT USAGE, SELECT ON SEQUENCES TO {_USER};
                """)
        found = make_url(url)
        place = f"{found.host}:{found.port}/{found.database}"
        options = f"options=-csearch_path%3D{_SCHEMA}"
        await alembic(f"postgres://{_OWNER}:secret@{place}?{options}", tree, "upgrade", "head")
        yield f"postgres://{_USER}:secret@{place}?{options}"


async def test_the_service_works_with_what_it_was_granted(
    container: Container, shop: Shop, database_url: str, tree: Path
) -> None:
    product = await shop.product(stock=10)
    await shop.order((product, 2))
    assert await shop.stock(product) == 8
    async with container.unit_of_work() as uow:
        assert (await uow.reports.build(uow.reports.today())).created == 1
    await container.retention.tick()
    await container.totals.tick()
    assert (await container.health.readiness()).parts["postgresql"] == "ok"
    # As each container does when it starts: there is nothing to do, and nothing is created.
    await alembic(database_url, tree, "upgrade", "head")
    async with connected(database_url) as connection:
        found = await connection.fetch("SELECT DISTINCT schemaname FROM pg_stat_user_tables")
        assert [row["schemaname"] for row in found] == [_SCHEMA]
