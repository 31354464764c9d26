"""PostgreSQL and Valkey as child processes. Their programs come in wheels, not in the image."""

from app.embedded.errors import EmbeddedServerError
from app.embedded.postgres import Postgres
from app.embedded.servers import EmbeddedServers, embedded_servers
from app.embedded.valkey import Valkey

__all__ = [
    "EmbeddedServerError",
    "EmbeddedServers",
    "Postgres",
    "Valkey",
    "embedded_servers",
]
