"""The servers a test runs against, as settings in this process and as variables for others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from app import state_file
from app.embedded import CacheValkey, Valkey
from app.settings import Settings
from harness.rabbitmq import RabbitMQ


@dataclass(frozen=True)
class Dependencies:
    """Without RabbitMQ the queues are streams in Valkey, which may have a server of their own."""

    database_url: str
    valkey: Valkey
    rabbitmq: RabbitMQ | None = None
    queues: Valkey | None = None

    @classmethod
    def of_one_process(cls, data_dir: Path) -> Self:
        """What the one-process mode has started."""
        state = state_file.read(data_dir)
        cache = CacheValkey(data_dir, state["redis_port"])
        return cls(state["database_url"], cache, queues=Valkey(data_dir, state["queues_port"]))

    @property
    def streams_url(self) -> str:
        return f"{(self.queues or self.valkey).url}/1"

    @property
    def variables(self) -> dict[str, str]:
        queues = self.rabbitmq.variables if self.rabbitmq else {"QUEUE_TRANSPORT": "streams"}
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_HOST": self.valkey.host,
            "REDIS_PORT": str(self.valkey.port),
            "STREAMS_URL": self.streams_url,
            **({"REDIS_PASSWORD": self.valkey.password} if self.valkey.password else {}),
            "LOG_FORMAT": "json",
            **queues,
        }

    def settings(self, **changes: Any) -> Settings:
        variables = {name.lower(): value for name, value in self.variables.items()}
        return Settings(_env_file=None, **{**variables, **changes})
