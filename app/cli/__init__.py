"""The order service: start its HTTP API or its queue worker, or handle dead messages.

The scheduler and its worker are started with `taskiq`: see README.md.
"""

import argparse
import sys
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from app.queues import CONSUMED, Queue

if TYPE_CHECKING:
    from app.settings import Settings


def main(arguments: Sequence[str] | None = None) -> None:
    chosen = _parser().parse_args(arguments)
    # Nothing else is needed to show the help or an error in the arguments.
    # pylint: disable=import-outside-toplevel
    import uvloop

    from app import logs
    from app.settings import load_settings

    settings = load_settings()
    try:
        process, running = _command(chosen, settings)
        # After the imports of the command: FastStream sets the level of its logger when imported.
        logs.configure(settings.log_level, settings.log_format, process)
        uvloop.run(running)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser(
        "serve", help="the HTTP API; with no database configured, the whole service in one process"
    )
    # Of a listening socket: how the processes of WEB_CONCURRENCY are started.
    serve.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    commands.add_parser("worker", help="consume the queues and send the messages of the outbox")
    dead = commands.add_parser(
        "dead", help="list, show, retry or drop messages that cannot be applied"
    )
    dead.add_argument("action", choices=["list", "show", "retry", "drop"])
    dead.add_argument("queue", choices=[queue.value for queue in CONSUMED])
    dead.add_argument("message", nargs="?", help="a message id, a number from the list, or `all`")
    return parser


def _command(
    chosen: argparse.Namespace, settings: "Settings"
) -> tuple[str, Coroutine[Any, Any, None]]:
    """The name of the process in its log lines, and what it runs.

    A command is imported only when it is chosen: the worker has no use for Litestar, nor the API
    for TaskIQ and Alembic, and each of them costs megabytes of memory and tenths of a second."""
    # pylint: disable=import-outside-toplevel
    if chosen.command == "dead":
        from app.cli import dead

        return "dead", dead.run(settings, chosen.action, Queue(chosen.queue), chosen.message)
    if chosen.command == "worker":
        from app import worker

        return "worker", worker.run(settings)
    if settings.has_database:
        from app.cli import serve

        if chosen.fd is not None:
            return "web", serve.run_one_of_several(settings, chosen.fd)
        return "web", serve.run(settings)
    from app.cli import one_process

    return "service", one_process.run(settings)
