"""The .env of Docker Compose names servers as only containers know them. The scripts on the host
find them where docker-compose.yml publishes them."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.settings import ROOT
from harness.dependencies import Dependencies
from harness.processes import environment
from harness.service import PYTHON, Ended, Service
from harness.tree import copy_tree
from harness.waiting import eventually


@pytest.fixture
def transport() -> str:
    return "rabbitmq"


@pytest.fixture(name="checkout")
async def _checkout(processes: Service, dependencies: Dependencies, tmp_path: Path) -> Path:
    """With a running stack, and the `.env` of docs/running.md but for the ports and logins."""
    await processes.start("web", "worker")
    tree = copy_tree(tmp_path / "checkout")
    text = (ROOT / "docs" / "running.md").read_text("utf-8").split("```env\n")[1].split("```")[0]
    database = urlsplit(dependencies.database_url)
    lines = dict(line.split("=") for line in text.split("\n") if line)
    assert (lines["RABBITMQ_HOST"], lines["REDIS_HOST"], lines["DB_HOST"]) == (
        *("rabbitmq", "redis", "db"),
    )
    hosts = {name: value for name, value in lines.items() if name.endswith("HOST")}
    of_test = dependencies.variables | {"PORT": str(processes.port)}
    of_test |= {"DB_PUBLISHED_PORT": str(database.port), "POSTGRES_DB": database.path[1:]}
    of_test |= {
        "POSTGRES_USER": f"{database.username}",
        "POSTGRES_PASSWORD": f"{database.password}",
    }
    del of_test["DATABASE_URL"]
    lines |= of_test | hosts
    (tree / ".env").write_text("\n".join(f"{n}={value}" for n, value in lines.items()))
    return tree


async def _run(tree: Path, *words: str) -> Ended:
    process = await asyncio.create_subprocess_exec(
        PYTHON,
        *words,
        cwd=tree,
        env=environment({"COLUMNS": "160"}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def test_the_programs_take_the_published_ports_and_say_so(
    checkout: Path, processes: Service, dependencies: Dependencies
) -> None:
    told = (
        "The .env is for containers; from this machine: DB_HOST=localhost, RABBITMQ_HOST=localhost"
    )
    redis = f"REDIS_PORT={dependencies.valkey.port}, API_URL=http://localhost:{processes.port}\n"
    for words, shown in (
        (("producer.py",), "applied"),
        (("test_redis_cache.py",), "All checks passed"),
        (("-m", "app", "find", "sample_user@example.com"), "user 1 (by e-mail): sample_user"),
        (("-m", "app", "dead", "list", "order"), "0 of 0 in order.dead listed"),
    ):
        ended = await _run(checkout, *words)
        assert ended.code == 0 and shown in ended.out, ended
        assert ended.err.count("\n") == 1 and told in ended.err and ended.err.endswith(redis), ended

    async def nothing_is_wrong() -> bool:
        return "Nothing is wrong." in (await _run(checkout, "-m", "app", "doctor")).out

    await eventually(nothing_is_wrong)  # a busy machine answers late for a moment
