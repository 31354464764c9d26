"""Where the running service can be reached."""

import os
import socket
import sys
from contextlib import suppress
from typing import Any

from pydantic import SecretStr

from app import state_file
from app.client.errors import CliError
from app.server_addresses import url_of
from app.settings import Settings, origins

# Each host's variable, its URL's, and what docker-compose.yml names that server.
_CONTAINERS = (
    ("db_host", "database_url", "db"),
    ("rabbitmq_host", "rabbitmq_url", "rabbitmq"),
    ("redis_host", "redis_url", "redis"),
)


def running_stack(settings: Settings) -> Settings:
    """The settings, completed with the locations that a running `python main.py` wrote down. What
    is configured wins over them. Raises CliError while that service is still starting."""
    settings = _outside_containers(settings)
    state = state_file.read(settings.data_dir)
    if settings.has_database or not _is_running(state.get("pid")):
        return settings
    if "api_url" not in state:
        raise CliError("the service is still starting: try again in a moment")
    chosen = set(settings.model_fields_set)
    chosen |= {"queue_transport"} if settings.has_rabbitmq else set()
    chosen |= {"redis_host", "redis_port"} if settings.redis_url else set()
    names = {"api_url", "database_url", "redis_host", "redis_port", "queue_transport"}
    names &= set(state) - chosen
    found = {name: state[name] for name in names}
    if "redis_host" in found and state.get("redis_password"):
        found["redis_password"] = SecretStr(state["redis_password"])
    return settings.model_copy(update=found)


def _outside_containers(settings: Settings) -> Settings:
    """A `.env` for Docker Compose names servers as only containers know them. On this machine they
    are where docker-compose.yml publishes them; what is taken is said."""
    where = origins()
    hosts = [
        host
        for host, url, container in _CONTAINERS
        if getattr(settings, host) == container
        and where.get(host) == ".env"
        and url not in where
        and not _resolves(container)
    ]
    if not hosts:
        return settings
    taken: dict[str, Any] = dict.fromkeys(hosts, "localhost")
    if "db_host" in taken:
        taken["db_port"] = settings.db_published_port
    if "api_url" not in where:
        taken["api_url"] = url_of("http", "localhost", settings.port)
    settings = settings.model_copy(update=taken)
    names = ", ".join(f"{host.upper()}={getattr(settings, host)}" for host in hosts)
    print(
        f"The .env is for containers; from this machine: {names}, {_ports(settings, hosts)}, "
        f"API_URL={settings.api_url}",
        file=sys.stderr,
    )
    return settings


def _ports(settings: Settings, hosts: list[str]) -> str:
    ports = (host.replace("_host", "_port") for host in hosts)
    return ", ".join(f"{port.upper()}={getattr(settings, port)}" for port in ports)


def _resolves(name: str) -> bool:
    with suppress(OSError):
        return bool(socket.getaddrinfo(name, None))
    return False


def _is_running(pid: object) -> bool:
    with suppress(OSError, OverflowError):  # no such process; no possible pid
        if isinstance(pid, int):
            os.kill(pid, 0)
            return True
    return False
