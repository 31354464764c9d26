"""The commands, their arguments and their help.

What a command does is imported when it runs: the help needs none of it, the worker no Litestar, the
API no TaskIQ, and each of them costs megabytes of memory and tenths of a second."""

# pylint: disable=import-outside-toplevel

from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.sections import Sections
from app.queues import CONSUMED, Queue

if TYPE_CHECKING:
    from app.settings import Settings

# The function that `completion` defines, and what a shell sets to ask for the rest of a word.
PROGRAM = "orders"
COMPLETE_VARIABLE = "_ORDERS_COMPLETE"
_QUEUE = click.Choice([queue.value for queue in CONSUMED])


@click.group(
    cls=Sections,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`python -m app COMMAND --help` says more of each. Settings come from the environment "
    "and from the file .env: README.md lists them.",
)
def commands() -> None:
    """The order service: people, products with stock, orders, and a report of every day.

    The first steps, with nothing configured:

    \b
      python -m app up       start everything, with a database of its own
      python -m app seed     in another terminal: send products and orders
      python -m app doctor   is all well? if not, what to do
    """


def _run(process: str, run: Callable[["Settings"], Coroutine[Any, Any, None]]) -> None:
    """With the settings and the log of a process. Call it after all imports: FastStream sets the
    level of its logger when it is imported."""
    import uvloop

    from app import logs
    from app.runtime import tracing
    from app.runtime.garbage import tune_gc
    from app.settings import load_settings

    tune_gc()
    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format, process)
    tracing.start(settings, process)
    try:
        uvloop.run(run(settings))
    finally:
        tracing.stop()


@commands.command()
def up() -> None:
    """Start everything in one process, with a PostgreSQL and a Valkey of its own.

    The data are kept in the directory .data. Ctrl-C stops all of it. A REDIS_HOST or RABBITMQ_HOST
    that is configured is used in place of the service's own."""
    from app.output import say_in_terminal

    say_in_terminal("  Order service: loading ...")
    from app.cli import one_process

    _run("service", one_process.run)


@commands.command()
@click.option("--fd", type=int, hidden=True)
def web(fd: int | None) -> None:
    """Start the HTTP API on the configured database."""
    from functools import partial

    from app.cli.serve import run, run_one_of_several

    # `--fd` is a listening socket: how the processes of WEB_CONCURRENCY are started.
    _run("web", run if fd is None else partial(run_one_of_several, descriptor=fd))


@commands.command()
@click.pass_context
def serve(context: click.Context) -> None:
    """`web` if a database is configured, else `up`: what main.py does."""
    from app.settings import load_settings

    context.invoke(web if load_settings().has_database else up)


@commands.command()
def worker() -> None:
    """Consume the queues, and publish the messages of the outbox."""
    from app import worker as process
    from app.cli.configured import require_database
    from app.settings import Settings

    async def run(settings: Settings) -> None:
        require_database(settings)
        await process.run(settings)

    _run("worker", run)


@commands.command()
def doctor() -> None:
    """Say what is configured and from where, what answers, what is wrong, and the cure.

    Ends with 0 if nothing is wrong, else with 1."""
    from app.cli import doctor as examination

    _run("doctor", examination.run)


@commands.command()
@click.argument("word")
def find(word: str) -> None:
    """Find an order, message, user or product by what it is called.

    WORD is the id or external_id of an order, the id of a message, the id, username or e-mail of a
    user, or the id or sku of a product. All of them are looked for."""
    from functools import partial

    from app.cli import find as finding

    _run("find", partial(finding.run, word=word))


@commands.group()
def schedule() -> None:
    """List, add or remove the times at which tasks run.

    The scheduler reads those in Redis every minute. Those of the code are in app/scheduler.py."""


@schedule.command("list")
def list_schedules() -> None:
    """List the schedules: their id, task and times."""
    from app.cli import schedule as schedules

    _run("schedule", schedules.show)


@schedule.command("add")
@click.argument("task")
@click.argument("cron")
@click.option("--timezone", help="Of the times. Default: REPORT_TIMEZONE.")
def add_schedule(task: str, cron: str, timezone: str | None) -> None:
    """Run TASK at the times of CRON, such as "*/5 * * * *", every 5 minutes."""
    from functools import partial

    from app.cli import schedule as schedules

    _run("schedule", partial(schedules.add, task=task, cron=cron, timezone=timezone))


@schedule.command("remove")
@click.argument("id")
def remove_schedule(id: str) -> None:
    """Remove a schedule from Redis. ID is what the list shows."""
    from functools import partial

    from app.cli import schedule as schedules

    _run("schedule", partial(schedules.remove, id=id))


@commands.group()
def report() -> None:
    """Build the reports, or compare them with the orders."""


@report.command("build")
@click.argument("day", type=click.DateTime(["%Y-%m-%d"]), required=False)
def build_report(day: datetime | None) -> None:
    """Build the report of DAY (2025-12-16), or without it of every day that is owed.

    Rows that are there stay. The worker publishes the message."""
    from functools import partial

    from app.cli import report as reports

    _run("report", partial(reports.build, day=day.date() if day else None))


@report.command("check")
@click.argument("first", type=click.DateTime(["%Y-%m-%d"]), required=False)
@click.argument("last", type=click.DateTime(["%Y-%m-%d"]), required=False)
def check_reports(first: datetime | None, last: datetime | None) -> None:
    """Compare the report rows of the days FIRST to LAST with the orders.

    Without LAST it is one day, without both the last 14 days that have ended. Ends with 1 if they
    differ."""
    from functools import partial

    from app.cli import report as reports

    begins, ends = (day.date() if day else None for day in (first, last))
    _run("report", partial(reports.check, first=begins, last=ends))


@commands.group()
def dead() -> None:
    """List, show, retry or drop the messages that cannot be applied.

    They are in <queue>.dead, each with the reason in its headers."""


def _dead(name: str, text: str) -> None:
    @dead.command(name, help=text)
    @click.argument("queue", type=_QUEUE)
    @click.argument("message", required=False)
    def act(queue: str, message: str | None) -> None:
        from functools import partial

        from app.cli import dead as letters

        _run("dead", partial(letters.run, action=name, queue=Queue(queue), wanted=message))


_MESSAGE = "MESSAGE is a message id, a number from the list, or `all`."
_dead("list", "List the dead messages of a queue, the oldest first.")
_dead("show", f"Show messages with all that is known of them. {_MESSAGE}")
_dead("retry", f"Send messages again, once what was wrong is mended. {_MESSAGE}")
_dead("drop", f"Delete messages for ever. {_MESSAGE}")


@commands.command()
@click.argument("shell", type=click.Choice(["bash", "zsh"]))
def completion(shell: str) -> None:
    """Let the shell complete commands: eval "$(python -m app completion bash)".

    It defines `orders`, which is `python -m app` in one word, and completes what follows it."""
    from app.cli.completion import script

    click.echo(script(commands, shell, PROGRAM, COMPLETE_VARIABLE))


@commands.command()
def init() -> None:
    """Write a .env for Docker Compose, with generated passwords.

    What is there is never overwritten. Without Docker nothing needs to be configured."""
    from app.cli import init as first_settings

    first_settings.run()


@commands.command()
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Load users.jsonl, addresses.jsonl, products.jsonl and orders.jsonl of DIR instead.",
)
def seed(data: Path | None) -> None:
    """Send five sample products and three orders to the queues, or load your own data.

    Your own data can be loaded again and again: nothing is added twice. It is what producer.py
    does."""
    from app.cli.configured import failures_in_one_line, with_queues
    from app.client.produce import produce
    from app.runtime.garbage import tune_gc
    from app.settings import load_settings

    tune_gc()
    with failures_in_one_line("seed"):
        settings = with_queues(load_settings())
    produce(settings, data, "seed")


@commands.command()
def migrate() -> None:
    """Bring the tables of the configured database to this version.

    It waits for the database for DB_WAIT_SECONDS, and can run while the service does."""
    from app.cli.configured import failures_in_one_line, with_database
    from app.cli.migrate import migrate_aloud
    from app.settings import load_settings

    with failures_in_one_line("migrate"):
        settings = with_database(load_settings())
    migrate_aloud(settings.postgresql_address)


@commands.command()
def version() -> None:
    """The version of the service, and of Python."""
    import platform

    from app.version import VERSION

    click.echo(f"order-service {VERSION}, Python {platform.python_version()}")


commands.under("Set it up", "init", "migrate", "seed")
commands.under("Run it", "up", "web", "worker", "serve")
commands.under("Look after it", "doctor", "find", "dead", "report", "schedule")
commands.under("This program", "completion", "version")
