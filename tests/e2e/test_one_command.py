"""`python main.py` with nothing configured: everything in one process, on bundled servers."""

import asyncio
import json
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from redis.asyncio import Redis

from app.embedded.ports import free_port
from harness.service import COMMANDS, Service, becomes_well
from harness.waiting import eventually

JANE = {"username": "jane_doe", "email": "jane@example.com"}
PRODUCT = {"name": "Green tea", "price": "19.90", "stock_quantity": 5}


@pytest.fixture(name="data")
def _data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def state(data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((data / "state.json").read_text())
    return found


def servers(embedded: Service) -> list[psutil.Process]:
    children = psutil.Process(embedded.web.pid).children(recursive=True)
    assert {"postgres", "valkey-server"} <= {child.name() for child in children}
    return children


async def are_gone(children: list[psutil.Process]) -> None:
    await eventually(lambda: not any(child.is_running() for child in children))


async def send_product(data: Path, message_id: str) -> None:
    """Send it as one would with redis-cli: a stream entry whose field is the plain body."""
    found = state(data)
    async with Redis(port=found["redis_port"], password=found["redis_password"], db=1) as redis:
        await redis.xadd("product", {"__data__": json.dumps(PRODUCT | {"sku": message_id})})


async def products(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/products")).json()["products"]
    return found


async def test_everything_starts_works_and_ends_with_ctrl_c(embedded: Service, data: Path) -> None:
    await embedded.start("web")
    children = servers(embedded)
    written = state(data)
    assert written["pid"] == embedded.web.pid
    assert (written["api_url"], written["queue_transport"]) == (embedded.url, "streams")
    assert embedded.url in embedded.web.output and "/docs" in embedded.web.output
    client = embedded.api
    await becomes_well(client)
    assert (await client.post("/users", json=JANE)).status_code == 201
    await send_product(data, "TEA-001")
    [product] = await eventually(lambda: products(client))
    assert (product["sku"], product["stock_quantity"]) == ("TEA-001", 5)
    # The loops of worker and scheduler run here too: yesterday's report was owed.
    await embedded.web.says("Sent report message to RabbitMQ queue 'report' for date")
    assert await embedded.web.stop(signal.SIGINT) == 0
    await are_gone(children)
    assert "Traceback" not in embedded.web.output


async def test_every_line_is_json_or_the_banner(embedded: Service) -> None:
    await embedded.start("web")
    assert await embedded.web.stop() == 0
    lines = filter(None, embedded.web.output.splitlines())
    assert [line for line in lines if not line.startswith(("  ", "{"))] == []


async def test_no_password_is_shown(embedded: Service, data: Path) -> None:
    await embedded.start("web")
    assert await embedded.web.stop() == 0
    files = sorted(data.glob("*/*.password"))
    assert [file.name for file in files] == ["app.password", "postgres.password", "app.password"]
    for file in files:
        for log in (embedded.web.log, *data.glob("*.log")):
            assert file.read_text() not in log.read_text()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_a_second_start_finds_the_same_data(
    end: signal.Signals, embedded: Service, data: Path
) -> None:
    await embedded.start("web")
    children, before = servers(embedded), state(data)
    client = embedded.api
    assert (await client.post("/users", json=JANE)).status_code == 201
    assert await embedded.web.stop(end) == (0 if end is signal.SIGTERM else -end)
    await are_gone(children)
    await embedded.start("web")
    assert (await client.get("/users/1")).json()["username"] == "jane_doe"
    after = state(data)
    assert after | {"pid": 0} == before | {"pid": 0}


async def test_a_second_start_in_the_same_directory_is_refused(
    embedded: Service, data: Path
) -> None:
    await embedded.start("web")
    second = embedded.process("second", *COMMANDS["web"], PORT=str(free_port()))
    second.start()
    assert await second.ends() == 1
    assert second.output.count("\n") == 1, second.output
    assert f"in use by another start of this service (pid {embedded.web.pid})" in second.output
    client = embedded.api
    assert (await client.get("/health/ready")).status_code == 200


async def test_a_taken_port_is_reported_in_one_line(embedded: Service, data: Path) -> None:
    with socket.create_server(("127.0.0.1", embedded.port)):
        embedded.web.start()
        assert await embedded.web.ends() == 1
    assert embedded.web.output.count("\n") == 1, embedded.web.output
    assert f"cannot listen on 127.0.0.1:{embedded.port}" in embedded.web.output
    assert "PORT" in embedded.web.output
    assert not data.exists()


async def test_wrong_settings_are_reported_in_one_line(embedded: Service) -> None:
    wrong = embedded.process("wrong", *COMMANDS["web"], REPORT_TIMEZONE="Mars", PORT="x")
    wrong.start()
    assert await wrong.ends() == 1
    assert wrong.output.count("\n") == 1, wrong.output
    assert "PORT" in wrong.output and "REPORT_TIMEZONE" in wrong.output


async def test_a_server_that_dies_is_started_again(embedded: Service) -> None:
    await embedded.start("web")
    client = embedded.api
    assert (await client.post("/users", json=JANE)).status_code == 201
    for child in psutil.Process(embedded.web.pid).children():
        child.kill()

    async def is_served() -> bool:
        return (await client.get("/users/1")).status_code == 200

    await asyncio.sleep(0)
    await eventually(is_served, 20)
    await eventually(lambda: len(servers(embedded)) >= 2, 20)
