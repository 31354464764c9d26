"""The report of a large day is sent in pieces, and one that breaks off does not look complete."""

import asyncio
import socket

import pytest

from app.embedded.ports import LOOPBACK
from harness.databases import Databases, connected
from harness.reports import DAY
from harness.service import Service

ROWS = 100_000  # more than the buffers between the server and a client hold
PATH = f"/report?report_date={DAY}"


@pytest.fixture(autouse=True)
async def _large_day(databases: Databases, database_url: str) -> None:
    async with connected(databases.admin_url(database_url)) as connection:
        await connection.execute("SET session_replication_role = replica")  # no orders needed
        await connection.execute(
            "INSERT INTO reports (report_at, order_id, count_product) "
            f"SELECT date '{DAY}', n, 1 FROM generate_series(1, {ROWS}) n"
        )


async def test_a_large_day_arrives_complete(processes: Service) -> None:
    await processes.start("web")
    response = await processes.api.get(PATH)
    assert response.headers["content-type"] == "application/json"
    assert [row["order_id"] for row in response.json()] == list(range(1, ROWS + 1))


async def test_a_failure_in_the_middle_breaks_the_connection(
    processes: Service, database_url: str
) -> None:
    await processes.start("web")
    reader, writer = await _connect_slowly(processes.port)
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    async with connected(database_url) as connection:
        await connection.execute("ALTER TABLE reports RENAME TO reports_away")
    body = await reader.read()
    writer.close()
    assert not body.endswith(b"0\r\n\r\n"), "the last chunk says that the response is complete"
    await processes.web.says('"message": "answer broken off"', "the tables", '"message": "request"')
    assert "Traceback" not in processes.web.output
    # The next request fails before its response begins, so it gets a proper error.
    response = await processes.api.get(PATH)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"


async def _connect_slowly(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect as a client whose buffers hold little until it reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (LOOPBACK, port))
    return await asyncio.open_connection(sock=connection, limit=16 * 1024)
