"""The servers a test runs against, as settings in this process and as variables for others."""

from dataclasses import dataclass
from typing import Any

from app.embedded import Valkey
from app.server_addresses import RedisAddress
from app.settings import Settings
from harness.rabbitmq import RabbitMQAccess


def redis_address(url: str) -> RedisAddress:
    return Settings(_env_file=None, redis_url=url).cache_address


@dataclass(frozen=True)
class Dependencies:
    """Without RabbitMQ the queues are streams in Valkey."""

    database_url: str
    valkey: Valkey
    rabbitmq: RabbitMQAccess | None = None

    @property
    def variables(self) -> dict[str, str]:
        queues = self.rabbitmq.variables if self.rabbitmq else {"QUEUE_TRANSPORT": "streams"}
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_HOST": self.valkey.host,
            "REDIS_PORT": str(self.valkey.port),
            **({"REDIS_PASSWORD": self.valkey.password} if self.valkey.password else {}),
            "LOG_FORMAT": "json",
            **queues,
        }

    def settings(self, **changes: Any) -> Settings:
        variables = {name.lower(): value for name, value in self.variables.items()}
        return Settings(_env_file=None, **{**variables, **changes})
