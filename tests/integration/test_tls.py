"""All three servers over TLS: with a certificate that fits, that has another name, or that nobody
knows."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from app.container import Container
from app.database import Database
from app.errors import Unavailable
from harness.databases import address_of
from harness.dependencies import Dependencies
from harness.service import ALL_OK, Service, becomes_well
from harness.tls import Authority, tls_before
from harness.waiting import eventually

NAME = "localhost"
ALL_REFUSED = {"postgresql": "down", "redis": "degraded", "rabbitmq": "degraded"}


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def secured(
    dependencies: Dependencies, context: ssl.SSLContext
) -> AsyncIterator[dict[str, str]]:
    """The variables that lead to all three servers over TLS."""
    assert dependencies.rabbitmq
    url = make_url(dependencies.database_url)
    async with (
        tls_before(url.port or 0, context, postgres=True) as postgres,
        tls_before(dependencies.valkey.port, context) as redis,
        tls_before(dependencies.rabbitmq.port, context) as rabbitmq,
    ):
        database = f"postgres://{url.username}:{url.password}@{NAME}:{postgres}/{url.database}"
        yield {
            "DATABASE_URL": f"{database}?sslmode=verify-full",
            "REDIS_URL": f"rediss://{NAME}:{redis}/0",
            "RABBITMQ_URL": f"amqps://guest:guest@{NAME}:{rabbitmq}/local",
        }


async def becomes(
    expected: Mapping[str, str], dependencies: Dependencies, **variables: str
) -> None:
    """The state of the parts. On a busy machine the first handshake with Redis may be too slow."""
    changes = {name.lower(): value for name, value in variables.items()}
    async with Container.open(dependencies.settings(**changes)) as container:

        async def holds() -> bool:
            return (await container.health.readiness()).parts == expected

        await eventually(holds)


async def test_a_certificate_that_fits_is_accepted(
    dependencies: Dependencies, authority: Authority
) -> None:
    async with secured(dependencies, authority.context(NAME)) as variables:
        await becomes(ALL_OK, dependencies, **variables, TLS_CA_FILE=str(authority.file))


async def test_each_url_may_name_its_own_authority(
    dependencies: Dependencies, authority: Authority
) -> None:
    names = {"DATABASE_URL": "sslrootcert", "REDIS_URL": "ssl_ca_certs", "RABBITMQ_URL": "cafile"}
    async with secured(dependencies, authority.context(NAME)) as variables:
        for variable, name in names.items():
            separator = "&" if "?" in variables[variable] else "?"
            variables[variable] += f"{separator}{name}={authority.file}"
        await becomes(ALL_OK, dependencies, **variables)


@pytest.mark.parametrize("wrong", ["name", "authority"])
async def test_a_certificate_that_does_not_fit_is_refused(
    wrong: str, dependencies: Dependencies, authority: Authority
) -> None:
    """For the name `db.example`, or signed by somebody whom this machine does not know."""
    context = authority.context("db.example" if wrong == "name" else NAME)
    known = {"TLS_CA_FILE": str(authority.file)} if wrong == "name" else {}
    async with secured(dependencies, context) as variables:
        await becomes(ALL_REFUSED, dependencies, **variables, **known)


@pytest.mark.parametrize(
    ("mode", "works"), [("prefer", True), ("require", True), ("verify-ca", False)]
)
async def test_what_is_not_asked_for_is_not_checked(
    mode: str, works: bool, dependencies: Dependencies, authority: Authority
) -> None:
    async with secured(dependencies, authority.context("db.example")) as variables:
        url = variables["DATABASE_URL"].replace("verify-full", mode)
        await _check(url, works)
        if mode == "verify-ca":
            await _check(f"{url}&sslrootcert={authority.file}", True)


async def test_prefer_is_content_without_tls_and_require_is_not(database_url: str) -> None:
    await _check(f"{database_url}?sslmode=prefer", True)
    await _check(f"{database_url}?sslmode=require", False)


async def _check(url: str, works: bool) -> None:
    database = Database(address_of(url), pool_size=1)
    try:
        await database.ping()
        assert works, "it was accepted"
    except Unavailable:
        assert not works
    finally:
        await database.close()


async def test_migrations_say_that_the_certificate_is_not_accepted(
    dependencies: Dependencies, authority: Authority, tree: Path, tmp_path: Path
) -> None:
    async with (
        secured(dependencies, authority.context(NAME)) as variables,
        Service(tree, tmp_path, variables) as service,
    ):
        ended = await service.run("-m", "alembic", "-c", "app/alembic.ini", "upgrade", "head")
        assert ended.code != 0
        [line] = (ended.out + ended.err).strip().splitlines()[-1:]
        assert "TLS_CA_FILE" in line and "Traceback" not in ended.err
        fits = {"TLS_CA_FILE": str(authority.file)}
        ended = await service.run(
            "-m", "alembic", "-c", "app/alembic.ini", "upgrade", "head", variables=fits
        )
        assert ended.code == 0, ended.err


async def test_the_four_processes_work_over_tls(
    dependencies: Dependencies, authority: Authority, tree: Path, tmp_path: Path
) -> None:
    async with secured(dependencies, authority.context(NAME)) as variables:
        variables |= {"TLS_CA_FILE": str(authority.file), "LOG_FORMAT": "json"}
        async with Service(tree, tmp_path, variables) as service:
            await service.start("web", "worker", "scheduler", "taskiq_worker")

            await becomes_well(service.api)
            created = await service.api.post(
                "/users", json={"username": "anna", "email": "anna@example.com"}
            )
            assert created.status_code == 201
            assert (await service.script("test_redis_cache.py")).endswith("All checks passed\n")
