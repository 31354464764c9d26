"""What has begun the work in hand: the log lines and the messages that come of it carry its id."""

from structlog.contextvars import get_contextvars

# Of a request, a message of the queues, and a task.
ORIGINS = ("request_id", "message_id", "task_id")


def origin() -> dict[str, str]:
    bound = get_contextvars()
    return {name: str(bound[name]) for name in ORIGINS if bound.get(name)}
