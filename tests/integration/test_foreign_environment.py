"""The variables and files of a developer's shell for other servers."""

import asyncio
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import text

from app.cli.migrate import migrate
from app.database import Database
from app.embedded import embedded_servers
from harness.databases import address_of

_FOREIGN = {
    "PGSSLMODE": "require",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLROOTCERT": "/nowhere/root.crt",
    "PGTARGETSESSIONATTRS": "read-only",
    "PGHOST": "db.example.com",
    "PGPORT": "1",
    "PGUSER": "somebody",
    "PGPASSWORD": "wrong",
    "PGDATABASE": "elsewhere",
    "PGSERVICE": "elsewhere",
    "PGCHANNELBINDING": "require",
    "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGGSSLIB": "odd",
}


async def test_what_is_meant_for_other_servers_does_not_reach_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _FOREIGN.items():
        monkeypatch.setenv(name, value)
    home = tmp_path / "home"
    (home / ".postgresql").mkdir(parents=True)
    for name in ("root.crt", "root.crl", "postgresql.crt", "postgresql.key"):
        (home / ".postgresql" / name).write_text("not a certificate")
    monkeypatch.setenv("HOME", str(home))
    async with embedded_servers(tmp_path / "data dir", valkey=False) as servers:
        assert servers.postgres
        for mode in ("", "?sslmode=prefer"):
            database = Database(address_of(servers.postgres.url + mode), pool_size=1)
            async with database.autocommit() as connection:
                assert await connection.scalar(text("SELECT 1")) == 1
            await database.close()
        await asyncio.to_thread(migrate, address_of(servers.postgres.url))
        psql = servers.postgres.psql
        assert Path(tmp_path / "data dir/postgres/app.password").read_text() not in psql
        done = subprocess.run(
            f'{psql} -Atc "SHOW transaction_read_only"',
            shell=True,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("off\n", "")
