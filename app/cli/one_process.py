"""`serve` with no database configured: the whole service in one process, with its own servers."""

import asyncio
from typing import Any

import structlog
from pydantic import SecretStr

from app import scheduler, web, worker
from app.cli.migrate import migrate
from app.container import Container
from app.embedded import EmbeddedServerError, EmbeddedServers, embedded_servers
from app.output import say, say_in_terminal
from app.runtime.loops import running
from app.server_addresses import RedisAddress, url_of
from app.settings import Settings

log = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """The API, the consumers, the relay, the scheduler and its tasks. Raises SystemExit."""
    if settings.has_database:
        raise SystemExit(
            "a database is configured, and `up` brings its own: start web, worker, scheduler and "
            "taskiq worker (see README.md), or unset DATABASE_URL and DB_HOST"
        )
    if settings.web_concurrency > 1:
        log.warning(
            "WEB_CONCURRENCY has no effect: with no database configured, all is one process"
        )
    listening = web.listen(settings)
    wants_redis = not settings.has_redis
    say_in_terminal(f"  Starting the servers in {settings.data_dir} ...")
    try:
        async with embedded_servers(settings.data_dir, valkey=wants_redis) as servers:
            settings = _settings_for(servers, settings)
            say_in_terminal("  Bringing the tables to this version ...")
            await asyncio.to_thread(migrate, settings.postgresql_address)
            async with (
                Container.open(settings) as container,
                running(
                    (servers.supervise, 1),
                    *container.publishing_loops,
                    *container.monitoring_loops(),
                ),
                worker.consuming(container) as pipeline,
                scheduler.in_process(container),
            ):
                servers.write_state(
                    api_url=_api_url(settings), queue_transport=settings.queue_transport
                )
                say(_banner(servers, settings))
                await web.serve(container, listening, is_shared=pipeline.has_batch)
    except EmbeddedServerError as error:
        raise SystemExit(str(error)) from None


def _settings_for(servers: EmbeddedServers, settings: Settings) -> Settings:
    """The bundled servers fill in what is not configured; what is configured stays."""
    assert servers.postgres is not None
    found: dict[str, Any] = {"database_url": servers.postgres.url}
    if servers.valkey:
        found |= {
            "redis_host": servers.valkey.host,
            "redis_port": servers.valkey.port,
            "redis_username": "",
            "redis_password": SecretStr(servers.valkey.password),
            "redis_password_file": None,
            "redis_tls": False,
        }
    if not settings.has_rabbitmq:
        found["queue_transport"] = "streams"
    return settings.model_copy(update=found)


def _api_url(settings: Settings) -> str:
    local = settings.host in ("127.0.0.1", "0.0.0.0", "::1", "::")
    return url_of("http", "localhost" if local else settings.host, settings.port)


def _redis_cli(servers: EmbeddedServers, address: RedisAddress) -> str:
    if servers.valkey:
        return servers.valkey.cli(address.number)
    return f"redis-cli -u {address.url}"


def _banner(servers: EmbeddedServers, settings: Settings) -> str:
    api = _api_url(settings)
    assert servers.postgres is not None
    queues = (
        f"{_redis_cli(servers, settings.streams_address)} XLEN {settings.redis_prefix}report"
        if settings.queue_transport == "streams"
        else f"RabbitMQ at {settings.rabbitmq_address.place}"
    )
    return f"""
  Order service: everything in one process

  API        {api}
  Status     {api}/
  API docs   {api}/docs
  Cache      {_redis_cli(servers, settings.cache_address)}
             (redis-cli: apt install redis-tools, or brew install redis)
  Queues     {queues}
  Database   {servers.postgres.psql}
  Data       {settings.data_dir}

  Try it, in another terminal:
    uv run python producer.py
    curl {api}/users/1
    curl -X POST {api}/report

  Ctrl-C stops everything; the data is kept.
"""
