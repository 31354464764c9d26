"""PostgreSQL's disk is full: no 500, no message is lost, and free space is the only cure needed."""

import os
from pathlib import Path

import httpx
import pytest

from app.queues import Queue
from harness.databases import Databases, connected
from harness.shop import Shop
from harness.waiting import eventually
from tests.faults.support.system import System, send_all

pytest_plugins = ["tests.faults.support.fixtures"]
pytestmark = [pytest.mark.fault, pytest.mark.parametrize("transport", ["rabbitmq"])]

_TABLES = ("stock_movements", "order_items", "orders", "products")


async def _as_superuser(system: System, statement: str) -> None:
    url = Databases(system.postgres).admin_url(system.database_url)
    async with connected(url) as connection:
        await connection.execute(statement)


async def _move(system: System, tablespace: str) -> None:
    for table in _TABLES:
        await _as_superuser(system, f"ALTER TABLE {table} SET TABLESPACE {tablespace}")


def _fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


async def test_no_space_left_on_the_device(system: System, small_disk: Path) -> None:
    owner = (system.postgres.directory / "postgres").stat()
    space = small_disk / "space"
    space.mkdir(mode=0o700)
    os.chown(space, owner.st_uid, owner.st_gid)
    for directory in (small_disk, *small_disk.parents[:4]):
        directory.chmod(directory.stat().st_mode | 0o011)
    await _as_superuser(system, f"CREATE TABLESPACE small LOCATION '{space}'")
    try:
        await _run_out_of_space(system, small_disk)
    finally:
        (small_disk / "ballast").unlink(missing_ok=True)
        await _move(system, "pg_default")
        await _as_superuser(system, "DROP TABLESPACE small")


async def _run_out_of_space(system: System, disk: Path) -> None:
    async with system.shop() as shop, system.queues() as queues, system.client() as client:
        product_id = await shop.product(stock=100_000)
        await _move(system, "small")
        await system.start("web", "worker")
        ballast = _fill(disk)
        placed = await _order_until_full(client, shop, product_id)
        orders = {f"order-{n}": shop.order_body((product_id, 1)) for n in range(20)}
        await send_all(queues, Queue.ORDER, orders)
        assert (await client.get("/orders")).status_code == 200
        assert await queues.count(Queue.ORDER.dead) == 0
        ballast.unlink()

        async def is_placed() -> bool:
            response = await client.post("/orders", json=shop.order_body((product_id, 1)))
            return response.status_code == 201

        await eventually(is_placed, 5)
        outcomes = await system.outcomes(queues, {Queue.ORDER: orders})
        assert set(outcomes.values()) == {"applied"}
        assert await shop.stock(product_id) == 100_000 - placed - len(orders) - 1
        assert not system.errors(), system.errors()


async def _order_until_full(client: httpx.AsyncClient, shop: Shop, product_id: int) -> int:
    """Returns how many orders there was room for."""
    for number in range(2000):
        response = await client.post("/orders", json=shop.order_body((product_id, 1)))
        if response.status_code != 201:
            assert response.status_code == 503, response.text
            assert int(response.headers["retry-after"]) > 0
            return number
    raise AssertionError("the disk was not full")
