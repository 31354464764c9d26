"""`python -m app <command>`: what the containers, main.py and operators run.

A command imports what it runs when it runs: the worker has no use for Litestar, nor the API for
TaskIQ and Alembic, and each of them is megabytes and tenths of a second.
"""

# pylint: disable=import-outside-toplevel
import argparse
import asyncio
import json
import sys
import uuid
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from app import logs
from app.container import Container
from app.messaging.broker import DeadLetter, Outgoing
from app.runtime.loops import running
from app.schemas.messages import CONSUMED, Queue
from app.settings import ROOT, Settings, load_settings

if TYPE_CHECKING:
    from app.embedded import EmbeddedServers

log = structlog.get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("serve", help="the HTTP API; with no database configured, everything")
    commands.add_parser("worker", help="the consumers of the queues, and the relay of the outbox")
    dead = commands.add_parser("dead", help="messages that could not be applied")
    dead.add_argument("action", choices=["list", "show", "retry", "drop"])
    dead.add_argument("queue", choices=[queue.value for queue in CONSUMED])
    dead.add_argument("message", nargs="?", help="a message id, its number in the list, or `all`")
    chosen = parser.parse_args(arguments)
    settings = load_settings()
    if chosen.command == "dead":
        _run("dead", settings, _dead(settings, chosen.action, Queue(chosen.queue), chosen.message))
    elif chosen.command == "worker":
        _run("worker", settings, _consume(settings))
    elif settings.has_database:
        _run("web", settings, _serve_api(settings))
    else:
        _run("service", settings, _serve_everything(settings))


def _run(process: str, settings: Settings, work: Coroutine[Any, Any, None]) -> None:
    logs.configure(settings.log_level, settings.log_format, process)
    try:
        uvloop.run(work)
    except KeyboardInterrupt:
        sys.exit(130)


async def _consume(settings: Settings) -> None:
    from app import worker

    await worker.run(settings)


async def _dead(settings: Settings, action: str, queue: Queue, wanted: str | None) -> None:
    from app.client.service import running_stack

    if action != "list" and wanted is None:
        raise SystemExit(f"say which one: dead {action} {queue} MESSAGE, or `all`")
    settings = running_stack(settings)
    async with Container.open(settings) as container:
        async with container.broker.dead_letters(queue, most=1000) as letters:
            chosen = [
                (number, letter)
                for number, letter in enumerate(letters, 1)
                if action == "list" or wanted in (letter.message_id, str(number), "all")
            ]
            for number, letter in chosen:
                await _act(container, action, queue, number, letter)
    print(f"{len(chosen)} of {len(letters)} in {queue.dead}")


async def _act(
    container: Container, action: str, queue: Queue, number: int, letter: DeadLetter
) -> None:
    headers = letter.headers
    print(f"{number:>4}  {letter.message_id or '(no id)'}  {headers.get('x-reason')}", end="  ")
    print(f"{headers.get('x-detail', '')!r}  first seen {headers.get('x-first-seen')}")
    if action == "show":
        print(json.dumps(dict(headers), indent=2), repr(letter.body), sep="\n")
    if action == "retry":
        again = Outgoing(queue, letter.body, letter.message_id or uuid.uuid4().hex)
        await container.broker.publish(again)
    if action in ("retry", "drop"):
        await letter.remove()


async def _serve_api(settings: Settings) -> None:
    from app import web

    for name in settings.default_passwords:
        log.warning(f"{name} has its default value, which everybody knows: set another in .env")
    listening = web.listen(settings)
    async with Container.open(settings) as container:
        await web.serve(container, listening)


async def _serve_everything(settings: Settings) -> None:
    """Web, consumers, relay, scheduler and tasks in this process, beside two bundled servers."""
    from app import scheduler, web, worker
    from app.embedded import EmbeddedServerError, embedded_servers  # the image is without them

    listening = web.listen(settings)
    wants_redis = settings.redis_host is None
    try:
        async with embedded_servers(settings.data_dir, valkey=wants_redis) as servers:
            settings = _settings_for(servers, settings)
            await asyncio.to_thread(migrate, settings.postgresql_url)
            async with (
                Container.open(settings) as container,
                running((servers.supervise, 1), *container.publishing_loops),
                worker.consuming(container),
                scheduler.in_process(container),
            ):
                servers.write_state(
                    api_url=_api_url(settings), queue_transport=settings.queue_transport
                )
                print(_banner(servers, settings), flush=True)
                await web.serve(container, listening)
    except EmbeddedServerError as error:
        raise SystemExit(str(error)) from None


def _settings_for(servers: "EmbeddedServers", settings: Settings) -> Settings:
    """The servers that are ours; those that the environment names stay as they are."""
    assert servers.postgres is not None
    found: dict[str, Any] = {"database_url": servers.postgres.url}
    if servers.valkey:
        found |= {"redis_host": servers.valkey.host, "redis_port": servers.valkey.port}
    if settings.rabbitmq_host is None:
        found["queue_transport"] = "streams"
    return settings.model_copy(update=found)


def migrate(url: str) -> None:
    """Bring the database to the newest revision."""
    from alembic import command
    from alembic.config import Config

    config = Config(ROOT / "app" / "alembic.ini")
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    command.upgrade(config, "head")


def _api_url(settings: Settings) -> str:
    host = "localhost" if settings.host in ("127.0.0.1", "0.0.0.0", "::1", "::") else settings.host
    return f"http://{host}:{settings.port}"


def _banner(servers: "EmbeddedServers", settings: Settings) -> str:
    api = _api_url(settings)
    assert servers.postgres is not None
    queues = (
        f"redis-cli -p {settings.redis_port} -n {settings.redis_db + 1} XLEN report"
        if settings.queue_transport == "streams"
        else f"RabbitMQ at {settings.rabbitmq_host}:{settings.rabbitmq_port}"
    )
    return f"""
  Order service, everything in one process

  API        {api}
  API docs   {api}/docs
  Cache      redis-cli -h {settings.redis_host} -p {settings.redis_port}
             (redis-cli: apt install redis-tools, or brew install redis)
  Queues     {queues}
  Database   {servers.postgres.psql}
  Data       {settings.data_dir}

  Try next, in another terminal:
    uv run python producer.py
    curl {api}/users/1
    curl -X POST {api}/report

  Ctrl-C stops all of it; the data stays.
"""
