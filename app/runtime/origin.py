"""What has begun the work in hand: the log lines and the messages that come of it carry its id, and
the trace that it is part of."""

from structlog.contextvars import get_contextvars

from app.runtime import tracing

# Of a request, a message of the queues, and a task.
ORIGINS = ("request_id", "message_id", "task_id")


def origin() -> dict[str, str]:
    bound = get_contextvars()
    ids = {name: str(bound[name]) for name in ORIGINS if bound.get(name)}
    return ids | tracing.carried()
