"""A release beside the next one: what each finds of the other in the database, in Redis and in the
queues."""

import asyncio
import json
import re
import sys
from functools import partial
from pathlib import Path

import aio_pika
import httpx
import pytest
from redis.asyncio import Redis

from app.cache.store import CacheStore
from app.container import Container
from app.embedded import Valkey
from app.errors import Unavailable
from app.queues import TASKS
from app.schemas.pages import PageRequest
from app.settings import ROOT
from harness.caches import Row, lone_store
from harness.databases import alembic, connected
from harness.dependencies import Dependencies, redis_address
from harness.processes import Process, finish
from harness.rabbitmq import RabbitMQ
from harness.releases import concurrently, executing, newer_release
from harness.service import Service
from harness.shop import Shop
from harness.tree import copy_tree, edit
from harness.waiting import eventually

_NEW_TASK = """

@broker.task(task_name="count_stock")
async def count_stock() -> None:
    logs.structlog.get_logger(__name__).warning("the stock is counted")
"""
ADD_COLUMN = executing("ALTER TABLE users ADD COLUMN phone text")
_EXPANDED = executing(
    *(
        f"ALTER TABLE {table} ADD COLUMN added text"
        for table in (
            *("users", "addresses", "products", "orders", "order_items", "stock_movements"),
            *("reports", "report_runs", "messages", "outbox", "idempotency_keys"),
            *("cache_invalidations", "installation"),
        )
    ),
    "CREATE TABLE suppliers (id bigint PRIMARY KEY, name text NOT NULL)",
)


def _upgrade(name: str, tree: Path, url: str, directory: Path) -> Process:
    return Process(
        name,
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        {"DATABASE_URL": url},
        directory=tree / "app",
        log=directory / f"{name}.log",
    )


async def test_a_release_starts_and_works_on_the_database_of_the_next(
    processes: Service, shop: Shop, database_url: str, tree: Path, tmp_path: Path
) -> None:
    """As a container does that is restarted in the middle of an upgrade, or after it was taken
    back."""
    await alembic(database_url, newer_release(tmp_path / "newer", _EXPANDED), "upgrade", "head")
    said = await alembic(database_url, tree, "upgrade", "head")
    assert "of a newer release" in said
    await processes.start("web")
    client = processes.api
    assert (await client.get("/health/ready")).json()["parts"]["postgresql"] == "ok"
    product = (
        await client.post("/products", json={"name": "Tea", "price": "1", "stock_quantity": 5})
    ).json()["id"]
    user = {"username": "jane_doe", "email": "jane@example.com"}
    wanted = [
        ("POST", "/users", user),
        ("PUT", f"/users/{shop.user_id}", {"description": "x"}),
        ("POST", "/orders", shop.order_body((product, 1))),
        ("POST", "/report", None),
        *(("GET", f"/{name}", None) for name in ("users", "products", "orders", "report")),
        ("GET", f"/products/{product}", None),
        ("DELETE", f"/addresses/{shop.address_id}", None),
    ]
    answers = [await client.request(method, path, json=body) for method, path, body in wanted]
    assert [answer.status_code for answer in answers] == [201, 200, 201, *[200] * 6, 409]


async def test_the_other_commands_do_not_take_a_newer_database_for_their_own(
    database_url: str, tree: Path, tmp_path: Path
) -> None:
    await alembic(database_url, newer_release(tmp_path / "newer", ADD_COLUMN), "upgrade", "head")
    for command in (["downgrade", "-1"], ["upgrade", "+1"], ["check"]):
        with pytest.raises(AssertionError, match="newer0"):
            await alembic(database_url, tree, *command)


async def test_a_migration_waits_for_a_table_and_lets_the_others_pass(
    shop: Shop, client: httpx.AsyncClient, database_url: str, tmp_path: Path
) -> None:
    """A backup or a report is reading a table: who writes it is served all the time."""
    newer = newer_release(tmp_path / "newer", ADD_COLUMN)
    upgrade = _upgrade("upgrade", newer, database_url, tmp_path)
    path, statuses = f"/users/{shop.user_id}", set[int]()
    try:
        async with connected(database_url) as reader:
            async with reader.transaction():
                await reader.execute("SELECT FROM users")
                upgrade.start()
                async with asyncio.timeout(60):
                    while upgrade.output.count("the migration tries again") < 2:
                        assert upgrade.running, upgrade.output
                        answer = await client.put(path, json={"description": "x"})
                        statuses.add(answer.status_code)
                        await asyncio.sleep(0.02)
            assert await upgrade.ends(20) == 0, upgrade.output
            await reader.execute("SELECT phone FROM users")
    finally:
        await finish([upgrade])
    assert statuses == {200}


async def test_an_index_is_created_concurrently_while_others_wait_to_migrate(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    """Those that wait must not hold what the index waits for."""
    index = concurrently("CREATE INDEX CONCURRENTLY ix_users_created_at ON users (created_at)")
    newer = newer_release(tmp_path / "newer", ADD_COLUMN, index)
    upgrades = [_upgrade(f"upgrade{n}", newer, database_url, tmp_path) for n in range(4)]
    try:
        async with connected(database_url) as writer:
            async with writer.transaction():
                await writer.execute("UPDATE users SET description = 'x'")
                for upgrade in upgrades:
                    upgrade.start()
                await upgrades_begin(upgrades)
            for upgrade in upgrades:
                assert await upgrade.ends(30) == 0, upgrade.output
            valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = $1::regclass"
            assert await writer.fetchval(valid, "ix_users_created_at")
    finally:
        await finish(upgrades)
    assert shop.user_id


async def upgrades_begin(upgrades: list[Process]) -> None:
    await eventually(lambda: any("tries again" in one.output for one in upgrades), 30)


async def test_the_examples_of_the_documentation_run(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "upgrades.md").read_text("utf-8")
    bodies = re.findall(r"```python\ndef upgrade\(\) -> None:\n(.*?)```", page, re.DOTALL)
    assert len(bodies) == 2
    newer = newer_release(tmp_path / "newer", ADD_COLUMN, *map(str.strip, bodies))
    await alembic(database_url, newer, "upgrade", "head")
    async with connected(database_url) as connection:
        assert (
            await connection.fetchval("SELECT phone FROM users WHERE id = $1", shop.user_id) == ""
        )
        assert await connection.fetchval("SELECT 'ix_orders_created_at'::regclass IS NOT NULL")


async def test_a_statement_between_others_outlasts_a_change_of_its_columns(
    container: Container, shop: Shop, database_url: str
) -> None:
    """Each has a transaction of its own, so it is simply done again."""

    async def read_twice() -> str:
        async with container.reading() as uow:
            await uow.users.list(PageRequest())
            return (await uow.addresses.list(shop.user_id, PageRequest())).addresses[0].city

    async with connected(database_url) as operator:
        for type_ in ("varchar(100)", "text", "varchar(100)"):
            await operator.execute(f"ALTER TABLE addresses ALTER COLUMN city TYPE {type_}")
            assert await read_twice() == "Berlin"


@pytest.mark.parametrize("transport", ["rabbitmq"])
async def test_a_task_of_a_newer_release_waits_for_its_worker(
    dependencies: Dependencies, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    """An older worker gives it back, and goes on with its own tasks."""
    older, newer = copy_tree(tmp_path / "older"), copy_tree(tmp_path / "newer")
    edit(older, "app/messaging/task_broker.py", "_RETURN_SECONDS = 5", "_RETURN_SECONDS = 1")
    with (newer / "app" / "scheduler.py").open("a", encoding="utf-8") as scheduler:
        scheduler.write(_NEW_TASK)
    task = {"task_id": "new-1", "task_name": "count_stock", "labels": {}, "args": [], "kwargs": {}}
    (tmp_path / "newer logs").mkdir()
    async with (
        await aio_pika.connect(rabbitmq.url) as connection,
        Service(older, tmp_path, dependencies.variables) as processes,
        Service(newer, tmp_path / "newer logs", dependencies.variables) as others,
    ):
        await processes.start("taskiq_worker")
        channel = await connection.channel()
        message = aio_pika.Message(json.dumps(task).encode())
        await channel.default_exchange.publish(message, TASKS)
        await processes.taskiq_worker.says("a task of another release goes back to the queue")
        others.taskiq_worker.start()
        await others.taskiq_worker.says("the stock is counted", seconds=60)


async def test_a_purge_by_a_release_that_knows_fewer_entities_is_not_enough(valkey: Valkey) -> None:
    """Redis has restarted with old values. The older release finds only its own."""
    older, newer = ("user",), ("user", "supplier")
    row = Row()

    async def connect(names: tuple[str, ...]) -> None:
        store = lone_store(redis_address(valkey.url), *names, row=row)
        await eventually(partial(_answers, store))
        await store.close()

    async with Redis(port=valkey.port, password=valkey.password or None) as redis:
        await redis.mset({"user:1": "old", "supplier:1": "old"})
        await connect(older)
        assert await redis.mget("user:1", "supplier:1") == [None, b"old"]
        await connect(newer)
        assert await redis.get("supplier:1") is None
        await redis.set("supplier:1", "new")
        for names in (older, newer):  # and now neither purges what the other has
            await connect(names)
            assert await redis.get("supplier:1") == b"new"


async def _answers(store: CacheStore) -> bool:
    try:
        await store.ping()
    except Unavailable:  # a purge takes longer than a call may
        return False
    return True
