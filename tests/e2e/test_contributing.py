"""The examples of CONTRIBUTING.md, applied in order to a copy of the service, and run."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from app import state_file
from app.embedded import Valkey
from app.settings import ROOT
from harness.databases import Databases, alembic
from harness.dependencies import Dependencies
from harness.queues import QueueClient, queue_client
from harness.rabbitmq import RabbitMQ
from harness.service import Service, one_command
from harness.tree import copy_tree
from harness.waiting import eventually

_BLOCKS = re.compile(r"^```(diff|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_JANE = {"username": "jane", "email": "jane@example.com", "phone": "+49 30 901820"}
_TEA = {"name": "Green tea", "price": "19.90", "stock_quantity": 5}


async def apply(patch: str, tree: Path) -> None:
    """Apply a patch of the page, after adding what the page leaves out and git insists on: line
    numbers, and a header for each file."""
    patch = re.sub(r"^@@$", "@@ -9 +9 @@", patch, flags=re.MULTILINE)
    patch = re.sub(r"^--- a/(.*)$", r"diff --git a/\1 b/\1\n\g<0>", patch, flags=re.MULTILINE)
    process = await asyncio.create_subprocess_exec(
        *("git", "apply", "--recount", "-"),
        cwd=tree,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await process.communicate(patch.encode())
    assert process.returncode == 0, f"{error.decode()}\n{patch}"


@pytest.fixture(scope="module", name="contributed")
async def _contributed(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Path:
    """A copy of the service with all examples and the migration that Alembic generates for them."""
    tree = copy_tree(tmp_path_factory.mktemp("contributed") / "tree")
    for kind, block in _BLOCKS.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        if kind == "diff":
            await apply(block, tree)
        else:
            name, _, code = block.partition("\n")
            (tree / name.removeprefix("# ")).write_text(code, encoding="utf-8")
    async with databases.fresh() as url:
        await alembic(url, tree, "revision", "--autogenerate", "-m", "the examples")
        await alembic(url, tree, "upgrade", "head")
        await alembic(url, tree, "check")
    return tree


async def check_examples(
    service: Service, runs_tasks: str, queues: QueueClient, cache: Redis
) -> None:
    jane = (await service.api.post("/users", json=_JANE)).raise_for_status().json()
    assert jane["phone"] == _JANE["phone"]
    await check_resource(service.api, cache)
    tea = (await service.api.post("/products", json=_TEA)).raise_for_status().json()["id"]
    await queues.send("product_delete", {"product_id": tea}, "deletes-tea")

    async def is_gone() -> bool:
        return (await service.api.get(f"/products/{tea}")).status_code == 404

    await eventually(is_gone)
    outcome = (await service.api.get("/messages/deletes-tea")).json()
    assert (outcome["status"], outcome["result_id"]) == ("applied", tea)
    await service.processes[runs_tasks].says('"message": "products counted"')


async def check_resource(api: httpx.AsyncClient, cache: Redis) -> None:
    created = (await api.post("/suppliers", json={"name": "Uji"})).raise_for_status().json()
    path, key = f"/suppliers/{created['id']}", f"supplier:{created['id']}"
    assert (await api.get(path)).json() == created
    assert await cache.exists(key) and 590 <= await cache.ttl(key) <= 600
    renamed = (await api.put(path, json={"name": "Shizuoka"})).raise_for_status().json()
    assert not await cache.exists(key)
    assert (await api.get(path)).json() == renamed
    assert (await api.put("/suppliers/99", json={"name": "x"})).status_code == 404


async def test_the_examples_in_one_process(contributed: Path, tmp_path: Path) -> None:
    async with one_command(contributed, tmp_path, LOG_FORMAT="json") as service:
        state: dict[str, Any] = state_file.read(tmp_path / "data")
        valkey = Valkey(tmp_path / "data", state["redis_port"])
        dependencies = Dependencies(state["database_url"], valkey)
        async with queue_client(dependencies) as queues, Redis.from_url(valkey.url) as cache:
            await check_examples(service, "web", queues, cache)


async def test_the_examples_in_four_processes(
    contributed: Path, tmp_path: Path, databases: Databases, valkey: Valkey, rabbitmq: RabbitMQ
) -> None:
    async with databases.fresh() as url:
        await alembic(url, contributed, "upgrade", "head")
        dependencies = Dependencies(url, valkey, rabbitmq)
        async with (
            Service(contributed, tmp_path, dependencies.variables) as service,
            queue_client(dependencies) as queues,
            Redis.from_url(valkey.url) as cache,
        ):
            await service.start("web", "worker", "scheduler", "taskiq_worker")
            await check_examples(service, "taskiq_worker", queues, cache)
