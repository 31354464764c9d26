"""Where the running service can be reached."""

import os
from contextlib import suppress

from pydantic import SecretStr

from app import state_file
from app.client.errors import CliError
from app.settings import Settings


def running_stack(settings: Settings) -> Settings:
    """The settings, completed with the locations that a running `python main.py` wrote down. What
    is configured wins over them. Raises CliError while that service is still starting."""
    state = state_file.read(settings.data_dir)
    if settings.has_database or not _is_running(state.get("pid")):
        return settings
    if "api_url" not in state:
        raise CliError("the service is still starting: try again in a moment")
    chosen = set(settings.model_fields_set)
    chosen |= {"queue_transport"} if settings.has_rabbitmq else set()
    chosen |= {"redis_host", "redis_port"} if settings.redis_url else set()
    names = {"api_url", "redis_host", "redis_port", "queue_transport"} & set(state) - chosen
    found = {name: state[name] for name in names}
    if "redis_host" in found and state.get("redis_password"):
        found["redis_password"] = SecretStr(state["redis_password"])
    return settings.model_copy(update=found)


def _is_running(pid: object) -> bool:
    with suppress(OSError, OverflowError):  # no such process; no possible pid
        if isinstance(pid, int):
            os.kill(pid, 0)
            return True
    return False
