"""Which servers a command acts on: those that are configured, or those of a running one-process
service. Never whatever this machine has at a default port."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.client.errors import CliError
from app.client.stack import running_stack
from app.errors import Unavailable
from app.settings import Settings

_OR_START = "or start the service with `python main.py`"


def with_database(settings: Settings) -> Settings:
    """Raises CliError."""
    found = running_stack(settings)
    if not found.has_database:
        raise CliError(f"which database? Set DATABASE_URL or DB_HOST, {_OR_START}")
    return found


def with_queues(settings: Settings) -> Settings:
    """Raises CliError."""
    found = running_stack(settings)
    uses_streams = found.queue_transport == "streams"
    is_known = found.has_redis if uses_streams else found.has_rabbitmq
    if not is_known and not found.has_database:
        variable = "REDIS_HOST" if uses_streams else "RABBITMQ_HOST"
        raise CliError(f"which broker? Set {variable}, {_OR_START}")
    return found


def with_schedules(settings: Settings) -> Settings:
    """Raises CliError."""
    if not settings.has_database:
        raise CliError(
            "schedules in Redis are for the scheduler of a service on configured servers: set "
            "DATABASE_URL or DB_HOST; the one-process service follows app/scheduler.py alone"
        )
    return running_stack(settings)


def require_database(settings: Settings) -> None:
    """For a process of the service. Raises SystemExit."""
    if not settings.has_database:
        raise SystemExit(
            "no database is configured: set DATABASE_URL or DB_HOST, or start everything in one "
            "process with `python -m app up`"
        )


@contextmanager
def failures_in_one_line(command: str) -> Iterator[None]:
    try:
        yield
    except (CliError, Unavailable) as error:
        raise SystemExit(f"{command}: {error}") from None
