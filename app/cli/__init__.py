"""The order service: start its HTTP API or its queue worker, or handle dead messages.

The scheduler and its worker are started with `taskiq`: see README.md.
"""

# Each command is imported only when it runs: the worker has no use for Litestar, nor the API for
# TaskIQ and Alembic, and each of them costs megabytes of memory and tenths of a second.
# pylint: disable=import-outside-toplevel
import argparse
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

import uvloop

from app import logs
from app.schemas.messages import CONSUMED, Queue
from app.settings import Settings, load_settings


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = _parser().parse_args(arguments)
    settings = load_settings()
    if chosen.command == "dead":
        _run("dead", settings, _dead(settings, chosen))
    elif chosen.command == "worker":
        _run("worker", settings, _worker(settings))
    elif settings.has_database:
        _run("web", settings, _api(settings))
    else:
        _run("service", settings, _one_process(settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "serve", help="the HTTP API; with no database configured, the whole service in one process"
    )
    commands.add_parser("worker", help="consume the queues and send the messages of the outbox")
    dead = commands.add_parser(
        "dead", help="list, show, retry or drop messages that cannot be applied"
    )
    dead.add_argument("action", choices=["list", "show", "retry", "drop"])
    dead.add_argument("queue", choices=[queue.value for queue in CONSUMED])
    dead.add_argument("message", nargs="?", help="a message id, a number from the list, or `all`")
    return parser


def _run(process: str, settings: Settings, command: Coroutine[Any, Any, None]) -> None:
    logs.configure(settings.log_level, settings.log_format, process)
    try:
        uvloop.run(command)
    except KeyboardInterrupt:
        sys.exit(130)


async def _api(settings: Settings) -> None:
    from app.cli import serve

    await serve.run(settings)


async def _one_process(settings: Settings) -> None:
    from app.cli import one_process

    await one_process.run(settings)


async def _worker(settings: Settings) -> None:
    from app import worker

    await worker.run(settings)


async def _dead(settings: Settings, chosen: argparse.Namespace) -> None:
    from app.cli import dead

    await dead.run(settings, chosen.action, Queue(chosen.queue), chosen.message)
