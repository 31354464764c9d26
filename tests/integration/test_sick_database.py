"""A database that answers and refuses: requests get 503, messages are held, readiness says so, and all
of it is over when the database is well again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx
import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from app.consumers import handlers, retry
from app.consumers.handlers import HANDLERS, Handler
from app.consumers.inbox import MOST_ATTEMPTS, RecordedInbox
from app.container import Container
from app.embedded import Postgres
from app.errors import Unavailable
from app.queues import Queue
from app.schemas.products import ProductCreate
from app.unit_of_work import UnitOfWork
from harness.databases import Databases, connected
from harness.queues import QueueClient
from harness.shop import Shop
from harness.waiting import eventually
from tests.integration.conftest import Outcome

PRODUCT = {"name": "Tea", "price": "1.00", "stock_quantity": 1}
_ROLE = "somebody"
_LOG_OUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"


class Illness(NamedTuple):
    """`outside`: told to the server from another database, and to new connections alone."""

    sick: str
    well: str
    outside: bool = True


ILLNESSES = {
    "read-only": Illness(
        "ALTER DATABASE {database} SET default_transaction_read_only = on",
        "ALTER DATABASE {database} RESET default_transaction_read_only",
    ),
    "another password": Illness(
        f"ALTER ROLE {_ROLE} PASSWORD 'another'", f"ALTER ROLE {_ROLE} PASSWORD 'secret'"
    ),
    "no login": Illness(f"ALTER ROLE {_ROLE} NOLOGIN", f"ALTER ROLE {_ROLE} LOGIN"),
    "no connections": Illness(
        "ALTER DATABASE {database} ALLOW_CONNECTIONS false",
        "ALTER DATABASE {database} ALLOW_CONNECTIONS true",
    ),
    "no such database": Illness(
        "ALTER DATABASE {database} RENAME TO elsewhere",
        "ALTER DATABASE elsewhere RENAME TO {database}",
    ),
    "no table": Illness(
        "ALTER TABLE products RENAME TO p", "ALTER TABLE p RENAME TO products", outside=False
    ),
    "no column": Illness(
        "ALTER TABLE products RENAME sku TO code",
        "ALTER TABLE products RENAME code TO sku",
        outside=False,
    ),
    "no permission": Illness(
        f"REVOKE INSERT ON products FROM {_ROLE}",
        f"GRANT INSERT ON products TO {_ROLE}",
        outside=False,
    ),
}


@pytest.fixture
async def database_url(databases: Databases, database_url: str) -> str:
    """As a role that owns nothing."""
    async with connected(databases.admin_url(database_url)) as operator:
        if not await operator.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", _ROLE):
            await operator.execute(f"CREATE ROLE {_ROLE} LOGIN PASSWORD 'secret'")
        await operator.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {_ROLE}")
        await operator.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {_ROLE}")
    url = make_url(database_url).set(username=_ROLE, password="secret")
    return url.render_as_string(hide_password=False)


@asynccontextmanager
async def _sick(illness: Illness, databases: Databases, database_url: str) -> AsyncIterator[None]:
    database = str(make_url(database_url).database)
    place = databases.admin_url(databases.url("app") if illness.outside else database_url)

    async def do(statement: str) -> None:
        async with connected(place) as operator:
            await operator.execute(statement.format(database=database))
            if illness.outside:
                await operator.execute(_LOG_OUT, database)

    if illness.outside:  # a renamed database must not be in use
        async with connected(place) as operator:
            await operator.execute(_LOG_OUT, database)
    await do(illness.sick)
    try:
        yield
    finally:
        await do(illness.well)


@pytest.mark.usefixtures("consumers")
@pytest.mark.parametrize("illness", ILLNESSES.values(), ids=ILLNESSES.keys())
async def test_a_database_that_refuses_makes_nothing_fail_and_nothing_stick(
    illness: Illness,
    client: httpx.AsyncClient,
    queues: QueueClient,
    outcome: Outcome,
    databases: Databases,
    database_url: str,
) -> None:
    assert (await client.get("/health/ready")).json()["parts"]["postgresql"] == "ok"
    ids = [f"message-{number}" for number in range(12)]  # more than are in hand at once
    async with _sick(illness, databases, database_url):
        for message_id in (*ids, None):
            await queues.send(Queue.PRODUCT, PRODUCT, message_id)
        answers = [await client.post("/products", json=PRODUCT) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {503}
        assert answers[0].headers["retry-after"] == "1"
        await eventually(lambda: _postgresql_is(client, "down"))
        await _held(queues)
    assert {(await outcome(message_id))["status"] for message_id in ids} == {"applied"}
    await eventually(lambda: _postgresql_is(client, "ok"))
    await eventually(lambda: _total(client, 13))
    assert await queues.count(Queue.PRODUCT.dead) == 0


async def _held(queues: QueueClient) -> None:
    await asyncio.sleep(1)
    assert await queues.count(Queue.PRODUCT) == 13
    assert await queues.count(Queue.PRODUCT.dead) == 0


async def _postgresql_is(client: httpx.AsyncClient, status: str) -> bool:
    answer = await client.get("/health/ready")
    assert answer.status_code == (503 if answer.json()["parts"]["postgresql"] == "down" else 200)
    return bool(answer.json()["parts"]["postgresql"] == status)


async def _total(client: httpx.AsyncClient, total: int) -> bool:
    return bool((await client.get("/products")).json()["total"] == total)


@pytest.mark.parametrize("privilege", ["SELECT", "INSERT", "UPDATE", "DELETE"])
async def test_readiness_names_the_privilege_that_is_missing(
    privilege: str, container: Container, databases: Databases, database_url: str
) -> None:
    await container.database.ping()
    async with connected(databases.admin_url(database_url)) as operator:
        await operator.execute(f"REVOKE {privilege} ON outbox FROM {_ROLE}")
        with pytest.raises(Unavailable, match=f"privilege {privilege} outbox"):
            await container.database.ping()
        await operator.execute(f"GRANT {privilege} ON outbox TO {_ROLE}")
    await container.database.ping()


async def test_a_login_that_is_refused_while_open_connections_work_is_degraded(
    client: httpx.AsyncClient, postgres: Postgres
) -> None:
    await client.get("/health/ready")
    async with connected(postgres.admin_url) as operator:
        await operator.execute(f"ALTER ROLE {_ROLE} PASSWORD 'another'")
    try:
        await eventually(lambda: _postgresql_is(client, "degraded"))
        assert (await client.post("/products", json=PRODUCT)).status_code in (201, 503)
    finally:
        async with connected(postgres.admin_url) as operator:
            await operator.execute(f"ALTER ROLE {_ROLE} PASSWORD 'secret'")


async def test_a_column_that_is_added_while_the_service_runs_makes_nothing_fail(
    client: httpx.AsyncClient, shop: Shop, databases: Databases, database_url: str
) -> None:
    product_id = await shop.product(stock=1000)
    order = await shop.order((product_id, 1))
    user = {"username": "jane_doe", "email": "jane@example.com"}
    calls = [
        *(("GET", path, None) for path in ("/users", "/products", "/orders", "/report")),
        *(("GET", f"/{name}", None) for name in (f"orders/{order.id}", f"products/{product_id}")),
        ("GET", f"/users/{shop.user_id}/addresses", None),
        ("GET", f"/addresses/{shop.address_id}", None),
        ("POST", "/orders", shop.order_body((product_id, 1))),
        ("PUT", f"/products/{product_id}", {"price": "2.00"}),
        ("PUT", f"/users/{shop.user_id}", {"description": "x"}),
        ("POST", "/report", None),
    ]

    async def statuses() -> set[int]:
        found = [await client.request(method, path, json=body) for method, path, body in calls]
        return {answer.status_code // 100 for answer in found}

    for _ in range(3):  # every connection of the pool has prepared its statements
        assert await statuses() == {2}
    async with connected(databases.admin_url(database_url)) as operator:
        tables = "users addresses products orders order_items reports messages".split()
        for change in ("ADD COLUMN added int DEFAULT 1", "ALTER COLUMN added TYPE bigint"):
            for table in tables:
                await operator.execute(f"ALTER TABLE {table} {change}")
            assert await statuses() == {2}
        await operator.execute("ALTER TABLE products ALTER COLUMN stock_quantity TYPE bigint")
        assert await statuses() == {2}
    assert (await client.post("/users", json=user)).status_code == 201


async def _fail_unexpectedly(uow: UnitOfWork, body: ProductCreate) -> int:
    raise RuntimeError("a bug")


async def _cannot_count(*_: object) -> None:
    raise RuntimeError("not counted")


@pytest.fixture
def _failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_LONGEST_PAUSE", 0.05)
    monkeypatch.setitem(HANDLERS, Queue.PRODUCT, Handler(ProductCreate, _fail_unexpectedly))


@pytest.mark.usefixtures("_failing", "consumers")
async def test_a_message_without_an_id_is_dead_only_when_it_was_really_tried(
    queues: QueueClient,
) -> None:
    await queues.send(Queue.PRODUCT, PRODUCT)
    dead = await queues.take(Queue.PRODUCT.dead)
    assert (dead.headers["x-reason"], dead.headers["x-attempts"]) == (
        "failure",
        str(MOST_ATTEMPTS),
    )


@pytest.mark.usefixtures("_failing", "consumers")
async def test_a_failure_that_cannot_be_counted_keeps_the_message_in_hand(
    queues: QueueClient, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    monkeypatch.setattr(RecordedInbox, "count_failure", _cannot_count)
    with capture_logs() as lines:
        await queues.send(Queue.PRODUCT, PRODUCT, "unlucky")
        counted = "a failure could not be counted"
        await eventually(lambda: sum(line["event"] == counted for line in lines) > MOST_ATTEMPTS)
    assert await queues.count(Queue.PRODUCT) == 1
    monkeypatch.setitem(HANDLERS, Queue.PRODUCT, Handler(ProductCreate, handlers.create_product))
    assert (await outcome("unlucky"))["status"] == "applied"
