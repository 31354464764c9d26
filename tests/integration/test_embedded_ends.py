"""The bundled servers after a stop, a kill, a freeze, and the death of their parent."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from app import state_file
from app.embedded import Postgres, Valkey, embedded_servers
from app.embedded.account import account_for
from harness.embedded import FAST, is_kept, left_over, make, parent_of, running, sql, write
from harness.waiting import eventually


@pytest.mark.parametrize("kind", ["postgres", "valkey"])
async def test_data_survive_every_kind_of_end(kind: str, directory: Path) -> None:
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
        server.pause()  # stop() must not wait for a frozen server
        await asyncio.wait_for(server.stop(), 5)


async def test_pause_freezes_valkey(directory: Path) -> None:
    server = Valkey(directory)
    async with running(server), Redis(port=server.port) as client:
        await client.ping()
        server.pause()
        reply = asyncio.ensure_future(client.get("kept"))
        done, _ = await asyncio.wait([reply], timeout=0.5)
        assert not done
        server.resume()
        assert await asyncio.wait_for(reply, 5) is None


async def test_a_server_that_ends_by_itself_is_started_again(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with embedded_servers(directory) as servers:
        assert servers.postgres and servers.valkey
        supervisor = asyncio.create_task(servers.supervise())
        for server in (servers.postgres, servers.valkey):
            pid, port = server.pid, server.port
            await write(server)
            os.kill(pid, signal.SIGKILL)
            await eventually(lambda: f"{server.name} runs again" in caplog.text)
            assert server.pid != pid and server.port == port
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
        before = state_file.read(directory)
        await sql(before["database_url"], "CREATE TABLE kept AS SELECT 1 AS one")
        if frozen:  # so that they cannot act on the SIGTERM that the kernel sends them
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


async def test_a_pid_that_now_belongs_to_another_process_is_left_alone(directory: Path) -> None:
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


async def test_a_half_made_cluster_is_not_used(directory: Path) -> None:
    with parent_of(directory) as process:
        await eventually(lambda: list(directory.glob("postgres.new-*/PG_VERSION")))
        process.kill()
    assert not (directory / "postgres").exists()
    async with running(Postgres(directory, options=FAST)) as server:
        await write(server)
    assert not list(directory.glob("postgres.new-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a copy made by root")
async def test_data_that_were_copied_by_root(directory: Path, tmp_path: Path) -> None:
    async with running(Postgres(directory, options=FAST)) as server:
        await write(server)
    shutil.copytree(directory, tmp_path / "copy")
    async with running(Postgres(tmp_path / "copy", options=FAST)) as server:
        assert await is_kept(server)
