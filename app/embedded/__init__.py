"""PostgreSQL and two Valkeys, for the cache and for the queues, as child processes. Their programs
come in wheels, not in the image."""

from app.embedded.errors import EmbeddedServerError
from app.embedded.postgres import Postgres
from app.embedded.servers import EmbeddedServers, embedded_servers
from app.embedded.valkey import CacheValkey, Valkey

__all__ = [
    "CacheValkey",
    "EmbeddedServerError",
    "EmbeddedServers",
    "Postgres",
    "Valkey",
    "embedded_servers",
]
