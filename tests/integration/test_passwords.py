"""A password that changes while the service runs: its file is read at each login."""

import json
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import make_url

from app import worker
from app.container import Container
from app.embedded import Postgres, Valkey
from app.errors import Unavailable
from app.messaging.broker import Outgoing
from app.queues import Queue
from app.schemas.pages import PageRequest
from app.settings import Settings
from harness.databases import Databases, connected
from harness.embedded import running
from harness.rabbitmq import VHOST, RabbitMQ
from harness.waiting import eventually

_ROLE = "rotating"


@pytest.fixture
async def database_url(databases: Databases, database_url: str) -> str:
    """The URL has no password."""
    async with connected(databases.admin_url(database_url)) as operator:
        await operator.execute(f"DROP ROLE IF EXISTS {_ROLE}")
        await operator.execute(f"CREATE ROLE {_ROLE} LOGIN")
        await operator.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {_ROLE}")
        await operator.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {_ROLE}")
    url = make_url(database_url)
    return f"postgres://{_ROLE}@{url.host}:{url.port}/{url.database}"


async def _change(
    password: str, postgres: Postgres, valkey: Valkey, rabbitmq: RabbitMQ, old: str = ""
) -> None:
    """In all three servers. Whoever is logged in is thrown out."""
    async with connected(postgres.admin_url) as operator:
        await operator.execute(f"ALTER ROLE {_ROLE} PASSWORD '{password}'")
        await operator.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{_ROLE}'"
        )
    async with Redis(port=valkey.port, password=old or None) as client:
        await client.config_set("requirepass", password)
        await client.client_kill_filter(skipme=True)
    await rabbitmq.control("change_password", _ROLE, password)
    await rabbitmq.control("close_all_user_connections", _ROLE, "a new password")


async def test_a_new_password_needs_no_restart(
    database_url: str, postgres: Postgres, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    await rabbitmq.control("add_user", _ROLE, "none")
    await rabbitmq.control("set_permissions", "-p", VHOST, _ROLE, ".*", ".*", ".*")
    file = tmp_path / "password"
    file.write_text("first\n")
    async with running(Valkey(tmp_path / "valkey")) as valkey:
        assert isinstance(valkey, Valkey)
        await _change("first", postgres, valkey, rabbitmq)
        settings = Settings(
            _env_file=None,
            database_url=database_url,
            redis_host=valkey.host,
            redis_port=valkey.port,
            rabbitmq_host=rabbitmq.host,
            rabbitmq_port=rabbitmq.port,
            rabbitmq_user=_ROLE,
            postgres_password_file=file,
            redis_password_file=file,
            rabbitmq_password_file=file,
        )
        async with Container.open(settings) as container, worker.consuming(container):
            await _works(container, "before")
            file.write_text("second\n")
            await _change("second", postgres, valkey, rabbitmq, old="first")
            await _works(container, "after")


async def _works(container: Container, name: str) -> None:
    """Redis takes a value, and a message comes through RabbitMQ into PostgreSQL."""

    async def is_well() -> bool:
        parts = (await container.health.readiness()).parts
        return set(parts.values()) == {"ok"} and not container.broker.troubles

    await eventually(is_well)
    body = {"name": name, "price": "1.00", "stock_quantity": 1}
    message = Outgoing(Queue.PRODUCT, json.dumps(body).encode(), name)

    async def is_sent() -> bool:  # readiness is remembered for a second
        try:
            await container.broker.publish(message)
        except Unavailable:
            return False
        return True

    await eventually(is_sent)

    async def is_applied() -> bool:
        async with container.reading() as uow:
            found = await uow.products.list(PageRequest())
        return name in [product.name for product in found.products]

    await eventually(is_applied)
