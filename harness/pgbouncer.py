"""A private PgBouncer: Debian's program, with a port and a configuration of its own."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from sqlalchemy import make_url

from app.embedded.ports import LOOPBACK, free_port
from harness.processes import Process

MISSING = "PgBouncer is missing: run `apt-get install -y pgbouncer`, or `tests/run`"
# Fewer connections than the clients have, so that each of them meets all of them.
_FEW = 3
_CONFIG = """\
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = {listen}
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {size}
{user_line}
"""


def _program() -> str | None:
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


def keeps_prepared_statements() -> bool:
    """In transaction mode, which the one of Debian 12 does not."""
    if not (program := _program()):
        return False
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    version = re.findall(r"PgBouncer (\d+)\.(\d+)", told.stdout)[0]
    return tuple(map(int, version)) >= (1, 21)


class PgBouncer:
    """In front of the server of `database_url`. `mode` is its pool_mode."""

    def __init__(self, directory: Path, database_url: str, mode: str) -> None:
        program = _program()
        assert program, MISSING
        self.port = free_port()
        url = make_url(database_url)
        config = directory / "pgbouncer.ini"
        config.write_text(
            _CONFIG.format(
                host=url.host,
                port=url.port,
                user=url.username,
                password=url.password,
                listen=LOOPBACK,
                listen_port=self.port,
                mode=mode,
                # In session mode a client keeps its connection.
                size=_FEW if mode == "transaction" else 50,
                # It refuses to be root.
                user_line="user = nobody" if os.geteuid() == 0 else "",
            )
        )
        self.url = url.set(drivername="postgres", port=self.port).render_as_string(False)
        self._process = Process(
            "pgbouncer", [program, config], {}, directory=directory, log=directory / "pgbouncer.log"
        )

    async def __aenter__(self) -> "PgBouncer":
        self._process.start()
        await self._process.says("process up")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.stop()
