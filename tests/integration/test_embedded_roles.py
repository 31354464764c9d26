"""The service's role in the bundled PostgreSQL is an ordinary one, also in data of earlier versions."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import make_url

from app.embedded import EmbeddedServerError, Postgres, roles
from app.embedded.account import make_private
from app.embedded.processes import processes_in
from app.embedded.secret_files import write_private
from harness.databases import alembic, connected
from harness.embedded import FAST, parent_of, running, sql
from harness.waiting import eventually

_FOR_SUPERUSERS = (
    "COPY (SELECT 1) TO PROGRAM 'id'",
    "COPY notes FROM PROGRAM 'id'",
    "COPY notes FROM '/etc/passwd'",
    "COPY notes TO '/tmp/notes'",
    "SELECT pg_read_file('app.password')",
    "SELECT pg_ls_dir('.')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT rolpassword FROM pg_authid",
    "ALTER SYSTEM SET log_statement = 'all'",
    "CREATE ROLE another SUPERUSER",
    "ALTER ROLE app SUPERUSER",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "CREATE FUNCTION run() RETURNS int LANGUAGE c AS 'libc', 'getpid'",
)
_FOR_OPERATORS = (
    "CREATE DATABASE restored",
    "DROP DATABASE restored WITH (FORCE)",
    "ALTER SYSTEM SET default_transaction_read_only = on",
    "SELECT pg_reload_conf()",
    "SET default_transaction_read_only = off",
    "ALTER SYSTEM RESET default_transaction_read_only",
    "SELECT pg_reload_conf()",
)
_IS_SUPER = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"

_OLD_REVISION = "b1f0a6d3c5e2"
_ORDER = """
INSERT INTO users (username, email) VALUES ('jane', 'jane@example.com');
INSERT INTO addresses (user_id, street, city, country) VALUES (1, 'Obere Str. 57', 'Berlin', 'DE');
INSERT INTO products (name, price, stock_quantity) VALUES ('Tea', 9.90, 5);
INSERT INTO orders (user_id, delivery_address_id) VALUES (1, 1);
INSERT INTO order_items VALUES (1, 1, 2, 9.90);
"""
# Of every kind that somebody may have made with psql.
_MORE = """
CREATE SCHEMA "My shop";
CREATE TABLE "My shop"."a 'table'" (id serial, at timestamptz) PARTITION BY RANGE (at);
CREATE TABLE "My shop".part PARTITION OF "My shop"."a 'table'" DEFAULT;
CREATE SEQUENCE counter;
CREATE VIEW many AS SELECT * FROM installation;
CREATE MATERIALIZED VIEW kept AS SELECT * FROM installation;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE pair AS (a int, b mood);
CREATE DOMAIN positive AS int CHECK (value > 0);
CREATE TYPE span AS RANGE (subtype = int);
CREATE FUNCTION twice(n int, VARIADIC rest int[]) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
CREATE PROCEDURE nothing() LANGUAGE sql AS '';
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
CREATE ROLE postgres LOGIN;
"""
# 10 is the superuser, and initdb's own objects are below 16384.
_OWNED_BY_SUPERUSER = " UNION ALL ".join(
    f"SELECT oid::{name}::text FROM {catalog} WHERE {owner} = 10 AND oid >= 16384"
    for catalog, owner, name in (
        ("pg_class", "relowner", "regclass"),
        ("pg_proc", "proowner", "regprocedure"),
        ("pg_type", "typowner", "regtype"),
        ("pg_namespace", "nspowner", "regnamespace"),
        ("pg_database", "datdba", "oid"),
    )
)


class _Former(Postgres):
    """As earlier versions made and started it."""

    async def _create_cluster(self) -> None:
        launcher = self._launcher
        make_private(launcher.directory, launcher.account)
        initdb, postgres = self._programs / "initdb", self._programs / "postgres"
        encoding = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
        options = ["--username=app", "--auth=scram-sha-256", "--pwfile=/dev/stdin", "--no-sync"]
        options += [*encoding, "--builtin-locale=C.UTF-8"]
        await launcher.run([initdb, "-D", launcher.alias, *options], "known-password")
        single = ["--single", "-D", launcher.alias, "postgres"]
        await launcher.run([postgres, *single], "CREATE DATABASE app;")
        write_private(launcher.directory / "app.password", "known-password")

    async def _separate_roles(self) -> None:
        """There was nothing of the kind."""


@pytest.fixture
async def former(directory: Path, tree: Path) -> Path:
    """A data directory of an earlier version, with an order in it; the server was killed."""
    async with running(_Former(directory, options=FAST)) as server:
        assert isinstance(server, Postgres)
        await alembic(server.url, tree, "upgrade", _OLD_REVISION)
        async with connected(server.url) as connection:
            await connection.execute(_ORDER)
            await connection.execute(_MORE)
        server.kill()
    return directory


async def _check_ordinary(server: Postgres) -> None:
    async with connected(server.url) as connection:
        assert await connection.fetchval(_IS_SUPER) is False
        await connection.execute("CREATE TABLE notes (note text)")
        for statement in _FOR_SUPERUSERS:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        await connection.execute("DROP TABLE notes")
        for statement in _FOR_OPERATORS:
            await connection.execute(statement)
    program = str(server.psql_program.with_name("pg_dump"))
    pg_dump = [program, server.url.replace("+asyncpg", "")]
    dumped = subprocess.run(pg_dump, capture_output=True, text=True, check=True).stdout
    assert "PostgreSQL database dump complete" in dumped and "GRANT" not in dumped
    assert await sql(server.admin_url, _IS_SUPER) is True
    other = make_url(server.admin_url).set(password=make_url(server.url).password)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await sql(other.render_as_string(hide_password=False), "SELECT 1")
    for name in ("app.password", "postgres.password"):
        file = server.directory / "postgres" / name
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text() not in (server.directory / "postgres.log").read_text()


async def _check_converted(directory: Path, tree: Path) -> None:
    async with running(Postgres(directory, options=FAST)) as server:
        assert isinstance(server, Postgres)
        assert "known-password" in server.url
        await _check_ordinary(server)
        async with connected(server.admin_url) as connection:
            assert await connection.fetch(_OWNED_BY_SUPERUSER) == []
        await alembic(server.url, tree, "upgrade", "head")
        async with connected(server.url) as connection:
            kept = "SELECT status, delivery_address->>'city', quantity FROM orders, order_items"
            assert await connection.fetch(kept) == [("pending", "Berlin", 2)]
            await connection.execute(
                "INSERT INTO orders (user_id, delivery_address_id) SELECT 1, 1"
            )
            await connection.execute(
                'DROP SCHEMA "My shop" CASCADE; DROP VIEW many; DROP TYPE pair'
            )


async def test_a_new_cluster_has_an_ordinary_role_for_the_service(
    directory: Path, tree: Path
) -> None:
    async with running(Postgres(directory, options=FAST)) as server:
        assert isinstance(server, Postgres)
        await _check_ordinary(server)
        await alembic(server.url, tree, "upgrade", "head")
        assert await sql(server.admin_url, _OWNED_BY_SUPERUSER) is None


async def test_the_role_of_an_earlier_version_becomes_an_ordinary_one(
    former: Path, tree: Path
) -> None:
    await _check_converted(former, tree)
    password = (former / "postgres/postgres.password").read_text()
    async with running(Postgres(former, options=FAST)) as server:
        assert isinstance(server, Postgres)
        await _check_ordinary(server)
        assert password in server.admin_url


async def test_a_kill_in_the_middle_of_the_conversion(
    former: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    separate = roles.separate

    def slowly(app_password: str, admin_password: str) -> str:
        statement = separate(app_password, admin_password)
        return statement.replace("END $$;", "RAISE LOG 'half way'; PERFORM pg_sleep(60);\nEND $$;")

    with monkeypatch.context() as patch:
        patch.setattr(roles, "separate", slowly)
        start = asyncio.create_task(Postgres(former, options=FAST).start())
        await eventually(lambda: "half way" in (former / "postgres.log").read_text())
        for pid in processes_in(former / "postgres", "postgres"):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(EmbeddedServerError):
            await start
    async with running(_Former(former, options=FAST)) as server:  # nothing of it was done
        assert isinstance(server, Postgres)
        assert await sql(server.url, _IS_SUPER) is True
    await _check_converted(former, tree)


async def test_a_kill_of_the_service_before_the_conversion(former: Path, tree: Path) -> None:
    with parent_of(former) as process:
        await eventually(lambda: list((former / "postgres").glob("postgres.password*")))
        process.kill()
    await _check_converted(former, tree)


async def test_a_kill_after_the_conversion_and_before_its_mark(former: Path, tree: Path) -> None:
    async with running(Postgres(former, options=FAST)):
        pass
    (former / "postgres/postgres.password").unlink()
    (former / "postgres/postgres.password.new").write_text("of the start that was killed")
    await _check_converted(former, tree)
