"""Every environment variable and its default, in one place."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent


def _check_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name} is not a time zone name such as Europe/Berlin") from None
    return name


Port = Annotated[int, Field(gt=0, lt=65536)]


class Settings(BaseSettings):
    """Read from the environment, and what is not there from `.env` in the repository's root.

    An empty variable counts as unset: docker-compose.yml sets some that `.env` lacks to nothing.
    """

    model_config = SettingsConfigDict(
        env_file=ROOT / ".env",
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    host: str = "127.0.0.1"
    port: Port = 8000
    # Processes of the API, each with its own connections to PostgreSQL and Redis.
    web_concurrency: Annotated[int, Field(ge=1, le=64)] = 1
    env: Literal["development", "production"] = "development"
    api_key: SecretStr | None = None
    # Separated by commas. The defaults are this machine and the two names of the API's container.
    allowed_hosts: str = "localhost,127.0.0.1,[::1],app,app_lab3"
    # Seconds.
    # Longer than load balancers keep idle connections to us: the side that closes must be theirs.
    keep_alive_seconds: Annotated[int, Field(ge=1, le=3600)] = 75
    shutdown_delay: Annotated[float, Field(ge=0, le=60)] = 0

    database_url: str | None = None
    db_host: str | None = None
    db_port: Port = 5432
    postgres_user: str = "admin"
    postgres_password: SecretStr = SecretStr("admin")
    postgres_db: str = "lab_db2"

    rabbitmq_host: str | None = None
    rabbitmq_port: Port = 5672
    rabbitmq_vhost: str = "local"
    rabbitmq_user: str = "guest"
    rabbitmq_password: SecretStr = SecretStr("guest")

    redis_host: str | None = None
    redis_port: Port = 6379
    redis_password: SecretStr | None = None
    redis_db: Annotated[int, Field(ge=0, le=12)] = 0
    redis_decode_responses: bool = True

    # For producer.py and test_redis_cache.py.
    api_url: str = "http://localhost:8000"
    test_user_id: Annotated[int, Field(gt=0)] | None = None
    test_delivery_address_id: Annotated[int, Field(gt=0)] | None = None

    queue_transport: Literal["rabbitmq", "streams"] = "rabbitmq"
    worker_concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    report_timezone: Annotated[str, AfterValidator(_check_time_zone)] = "UTC"
    # How long what is only needed for a while is kept, in days: see docs/running.md.
    messages_kept_days: Annotated[int, Field(ge=30, le=36_500)] = 30
    dead_letters_kept_days: Annotated[int, Field(ge=1, le=36_500)] = 90
    report_messages_kept_days: Annotated[int, Field(ge=1, le=36_500)] = 30
    stock_movements_kept_days: Annotated[int, Field(ge=1, le=36_500)] = 730
    data_dir: Path = ROOT / ".data"
    heartbeat_file: Path | None = None
    # For tests only: see app/runtime/failpoints.py.
    fail_at: str | None = None

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] | None = None

    @property
    def has_database(self) -> bool:
        """False means the one-process mode: main.py starts servers of its own."""
        return bool(self.database_url or self.db_host)

    @property
    def is_exposed(self) -> bool:
        """Whether other machines may reach the API."""
        return self.host not in ("127.0.0.1", "localhost", "::1")

    @property
    def default_passwords(self) -> list[str]:
        """The variables in use whose password is still the public default."""
        passwords = {
            "POSTGRES_PASSWORD": (not self.database_url, self.postgres_password, "admin"),
            "RABBITMQ_PASSWORD": (
                self.queue_transport == "rabbitmq",
                self.rabbitmq_password,
                "guest",
            ),
        }
        return [
            name
            for name, (used, value, default) in passwords.items()
            if used and value == SecretStr(default)
        ]

    @property
    def postgresql_url(self) -> str:
        if self.database_url:
            return self.database_url
        password = quote(self.postgres_password.get_secret_value(), safe="")
        login = f"{quote(self.postgres_user, safe='')}:{password}"
        host = self.db_host or "localhost"
        return f"postgresql+asyncpg://{login}@{host}:{self.db_port}/{quote(self.postgres_db)}"

    @property
    def rabbitmq_url(self) -> str:
        password = quote(self.rabbitmq_password.get_secret_value(), safe="")
        login = f"{quote(self.rabbitmq_user, safe='')}:{password}"
        host = self.rabbitmq_host or "localhost"
        return f"amqp://{login}@{host}:{self.rabbitmq_port}/{quote(self.rabbitmq_vhost, safe='')}"

    def redis_url(self, database: int) -> str:
        login = ""
        if self.redis_password:
            login = f":{quote(self.redis_password.get_secret_value(), safe='')}@"
        return f"redis://{login}{self.redis_host or 'localhost'}:{self.redis_port}/{database}"

    @property
    def cache_url(self) -> str:
        return self.redis_url(self.redis_db)

    @property
    def streams_url(self) -> str:
        return self.redis_url(self.redis_db + 1)

    @property
    def results_url(self) -> str:
        return self.redis_url(self.redis_db + 2)

    @property
    def schedules_url(self) -> str:
        return self.redis_url(self.redis_db + 3)


def _check_env_file(path: Path) -> None:
    """SystemExit unless it is absent or text in UTF-8. UTF-16 without a byte order mark is UTF-8
    too, but full of NUL."""
    try:
        if path.is_file() and "\0" in path.read_text(encoding="utf-8"):
            raise ValueError("NUL")
    except OSError as error:
        raise SystemExit(f"cannot read {path} ({error.strerror}): change its permissions") from None
    except ValueError:
        raise SystemExit(f"{path} is not text in UTF-8: save it again with that encoding") from None


def load_settings() -> Settings:
    """The settings, or SystemExit with one line that names each invalid variable and why, or the
    file that cannot be read."""
    _check_env_file(ROOT / ".env")
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
        raise SystemExit("wrong configuration: " + "; ".join(lines)) from None
