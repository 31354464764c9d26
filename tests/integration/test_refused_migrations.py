"""What a migration says that cannot begin: one line, which names the variable to look at."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from app.embedded.ports import LOOPBACK, free_port
from harness.service import PYTHON, Service
from harness.waiting import eventually
from tests.faults.proxy import Proxy

_UPGRADE = ("-m", "alembic", "-c", "app/alembic.ini", "upgrade", "head")


async def _line(tree: Path, directory: Path, url: str, **variables: str) -> str:
    async with Service(tree, directory, {"DATABASE_URL": url, **variables}) as service:
        ended = await service.run(*_UPGRADE)
    assert ended.code != 0 and "Traceback" not in ended.err
    [line] = (ended.out + ended.err).strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"password": "new"}, "refuses the login of app.*new-passwords.*POSTGRES_PASSWORD"),
        ({"database": "nowhere"}, "POSTGRES_DB"),
        ({"port": free_port()}, "DB_HOST and DB_PORT"),
    ],
    ids=["password", "database", "port"],
)
async def test_one_line_names_the_variable(
    changes: dict[str, Any], said: str, database_url: str, tree: Path, tmp_path: Path
) -> None:
    url = make_url(database_url).set(**changes).render_as_string(hide_password=False)
    assert re.search(said, await _line(tree, tmp_path, url))


async def test_it_waits_for_a_server_that_is_late(
    database_url: str, tree: Path, tmp_path: Path
) -> None:
    url = make_url(database_url)
    proxy = Proxy(free_port())  # to nowhere, at first
    late = url.set(port=proxy.port).render_as_string(hide_password=False)
    await proxy.start()
    try:
        variables = {"DATABASE_URL": late, "DB_WAIT_SECONDS": "60"}
        async with Service(tree, tmp_path, variables) as service:
            upgrade = service.process("alembic", PYTHON, *_UPGRADE)
            upgrade.start()
            await eventually(lambda: proxy.connections > 0, 30)
            proxy.target = (LOOPBACK, url.port or 0)
            assert await upgrade.ends(60) == 0, upgrade.output
    finally:
        await proxy.close()
