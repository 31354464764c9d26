"""Every environment variable and its default, in one place."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    SettingsConfigDict,
)

from app.server_addresses import (
    MOST_REDIS_DATABASE,
    Login,
    Password,
    Pooler,
    PostgresAddress,
    RabbitMQAddress,
    RedisAddress,
    SecretFile,
    tls_context,
    url_of,
)

ROOT = Path(__file__).resolve().parent.parent


def _check_time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name} is not a time zone name such as Europe/Berlin") from None
    return name


def _check_root_path(path: str) -> str:
    if path and (not path.startswith("/") or path.endswith("/")):
        raise ValueError("it begins with / and does not end with it")
    return path


_SERVED = re.compile(r"\*|(\*\.)?[\w-]+(\.[\w-]+)*|\[[\da-fA-F:.]+\]", re.ASCII)


def _check_hosts(hosts: str) -> str:
    for host in filter(None, map(str.strip, hosts.split(","))):
        if not _SERVED.fullmatch(host):
            raise ValueError(f"{host} is no host name, nor *.example.com or *")
    return hosts


_ORIGIN = re.compile(r"[a-z][a-z\d+.-]*://([a-z\d._-]+|\[[\da-f:.]+\])(:\d+)?", re.ASCII)
_NEEDLESS_PORT = re.compile(r"http://.*:80|https://.*:443")


def _check_origins(text: str) -> str:
    for origin in map(str.strip, text.split(",") if text else ()):
        if text != "*" and (not _ORIGIN.fullmatch(origin) or _NEEDLESS_PORT.fullmatch(origin)):
            raise ValueError(
                f"{origin} is not what a browser sends: https://shop.example, in small letters, "
                "with a port only if it is not the usual one, and no path; or * alone"
            )
    return text


class Rate(NamedTuple):
    most: int
    seconds: int


_RATE = re.compile(r"([1-9]\d{0,8})/(s|second|m|minute|h|hour)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def _check_rate(rate: str | None) -> str | None:
    if rate and not _RATE.fullmatch(rate):
        raise ValueError(f"{rate} is not a rate such as 100/s, 6000/minute or 100000/hour")
    return rate


def networks_in(text: str) -> list[IPv4Network | IPv6Network]:
    """Separated by commas; an address is a network too."""
    return [ip_network(part.strip()) for part in text.split(",")] if text else []


def _check_networks(text: str) -> str:
    try:
        networks_in(text)
    except ValueError as error:
        raise ValueError(f"{error}; write 10.0.0.7, 10.0.0.0/8 or fd00::/8") from None
    return text


class ReadBy(tuple[str, ...]):
    """Who uses a setting, for docs/settings.md. Without it, all processes and commands do."""

    def __new__(cls, *readers: str) -> Self:
        return super().__new__(cls, readers)


_WEB = ReadBy("web")
_WITHOUT_PORT = ReadBy("worker", "scheduler", "taskiq worker")
_KEEPERS = ReadBy("worker", "taskiq worker")

Port = Annotated[int, Field(gt=0, lt=65536)]
# It may have a password in it.
Url = Annotated[str | None, Field(repr=False)]


class Settings(BaseSettings):
    """Read from the environment, and what is not there from `.env` in the repository's root.

    An empty variable counts as unset: docker-compose.yml sets some that `.env` lacks to nothing.
    What stands below a setting is its line in docs/settings.md, which a test keeps.
    """

    model_config = SettingsConfigDict(
        env_file=ROOT / ".env",
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    host: Annotated[str, _WEB] = "127.0.0.1"
    """where the API listens; `0.0.0.0` lets other machines in"""
    port: Annotated[Port, ReadBy("web", "commands")] = 8000
    """where the API listens; with Docker Compose, where it is published on this machine"""
    web_concurrency: Annotated[int, _WEB, Field(ge=1, le=64)] = 1
    """processes of the API on that port, each with its own connections to PostgreSQL and Redis;
    with no database configured there is one process for everything"""
    env: Annotated[Literal["development", "production"], _WEB] = "development"
    """`production` refuses to start if `HOST` is open to other machines and there is no API key"""
    api_key: Annotated[SecretStr | None, ReadBy("web", "commands")] = None
    """if set, every path but health and documentation needs `Authorization: Bearer ...` or
    `X-API-Key: ...`"""
    api_key_file: Annotated[Path | None, ReadBy("web", "commands")] = None
    """a file with it, in place of `API_KEY`"""
    # The defaults are this machine and the two names of the API's container.
    allowed_hosts: Annotated[str, _WEB, AfterValidator(_check_hosts)] = "localhost,app,app_lab3"
    """host names that clients may use, besides any address, separated by commas;
    `*.shop.example` for all below it, `*` for any"""
    cors_origins: Annotated[str, _WEB, AfterValidator(_check_origins)] = ""
    """[whose pages may call the API](security.md#pages-of-other-origins): origins such as
    `https://shop.example`, separated by commas, or `*`"""
    rate_limit: Annotated[str | None, _WEB, AfterValidator(_check_rate)] = None
    """[so many requests of one client](security.md#a-flood-from-one-client), such as `100/s` or
    `6000/minute`, in each process of the API"""
    trusted_proxies: Annotated[str, _WEB, AfterValidator(_check_networks)] = ""
    """addresses or networks, separated by commas, whose `X-Forwarded-For` says who the client is"""
    root_path: Annotated[str, _WEB, AfterValidator(_check_root_path)] = ""
    """`/shop` if [a proxy](running.md#a-proxy-in-front) serves the API there"""
    keep_alive_seconds: Annotated[int, _WEB, Field(ge=1, le=3600)] = 75
    """for how long an idle connection stays open; more than a load balancer keeps it, since the
    side that closes must be the balancer's"""
    shutdown_delay: Annotated[float, _WEB, Field(ge=0, le=60)] = 0
    """seconds for which a stopping API reports "not ready" before it closes its socket"""

    database_url: Url = None
    """[PostgreSQL's address](running.md#servers-elsewhere); what it leaves out comes from the
    variables below"""
    db_host: str | None = None
    """PostgreSQL's host; with neither this nor `DATABASE_URL`, `main.py` starts a server of its
    own"""
    db_port: Port = 5432
    """PostgreSQL's port"""
    db_published_port: Annotated[Port, ReadBy("commands")] = 5433
    """where docker-compose.yml publishes PostgreSQL on this machine"""
    db_wait_seconds: Annotated[int, ReadBy("migrations"), Field(ge=0)] = 0
    """for how long a migration waits for a PostgreSQL that does not answer yet; `60` in
    containers"""
    db_pooler: Pooler | None = None
    """set if [PgBouncer](running.md#pgbouncer) stands before PostgreSQL"""
    postgres_user: str = "admin"
    """PostgreSQL's role"""
    postgres_password: SecretStr = SecretStr("admin")
    """its password"""
    postgres_password_file: Path | None = None
    """a file with it, in place of `POSTGRES_PASSWORD`; read at each login"""
    postgres_db: str = "lab_db2"
    """the database"""

    rabbitmq_url: Url = None
    """[RabbitMQ's address](running.md#servers-elsewhere); what it leaves out comes from the
    variables below"""
    rabbitmq_host: str | None = None
    """RabbitMQ's host; `localhost` if there is neither this nor `RABBITMQ_URL`"""
    rabbitmq_port: Port = 5672
    """RabbitMQ's port; with Docker Compose, where it is published on this machine"""
    rabbitmq_vhost: str = "local"
    """the virtual host of the queues"""
    rabbitmq_user: str = "guest"
    """RabbitMQ's user"""
    rabbitmq_password: SecretStr = SecretStr("guest")
    """the user's password"""
    rabbitmq_password_file: Path | None = None
    """a file with it, in place of `RABBITMQ_PASSWORD`; read at each login"""
    rabbitmq_tls: bool = False
    """whether the connection is encrypted; with a URL, `amqps://` says it"""

    redis_url: Url = None
    """[Redis' address](running.md#servers-elsewhere); what it leaves out comes from the variables
    below"""
    redis_host: str | None = None
    """Redis' host; `localhost` if there is neither this nor `REDIS_URL`"""
    redis_port: Port = 6379
    """Redis' port; with Docker Compose, where it is published on this machine"""
    redis_username: str = ""
    """Redis' user; empty is the user `default`"""
    redis_password: SecretStr | None = None
    """the user's password"""
    redis_password_file: Path | None = None
    """a file with it, in place of `REDIS_PASSWORD`; read at each login"""
    redis_tls: bool = False
    """whether the connection is encrypted; with a URL, `rediss://` says it"""
    redis_db: Annotated[int, Field(ge=0)] = 0
    """the database of the cache; the three after it hold the streams, the results of tasks and the
    schedules"""
    redis_prefix: str = ""
    """if set, all keys begin with it and are in the one database `REDIS_DB`"""
    redis_decode_responses: Annotated[bool, ReadBy("commands")] = True
    """whether `test_redis_cache.py` shows text or bytes"""

    tls_ca_file: str | None = None
    """the authorities that sign our servers' certificates; by default those that the machine
    trusts"""

    api_url: Annotated[str, ReadBy("commands")] = "http://localhost:8000"
    """where the commands find the API"""
    test_user_id: Annotated[int | None, ReadBy("commands"), Field(gt=0)] = None
    """whose orders `producer.py` sends; by default its own sample user's"""
    test_delivery_address_id: Annotated[int | None, ReadBy("commands"), Field(gt=0)] = None
    """where to; by default the sample user's address"""

    queue_transport: Literal["rabbitmq", "streams"] = "rabbitmq"
    """`streams`: queues are Redis streams, as in the one-process mode"""
    worker_concurrency: Annotated[int, ReadBy("worker"), Field(ge=1, le=64)] = 8
    """messages of a queue in progress at once; orders share transactions, up to 128 in each; `1`:
    one at a time, in order"""
    report_timezone: Annotated[str, AfterValidator(_check_time_zone)] = "UTC"
    """report days run from midnight to midnight there"""
    messages_kept_days: Annotated[int, _KEEPERS, Field(ge=30, le=36_500)] = 30
    """for how long a message id protects against a repeat: [what is
    kept](running.md#what-is-kept)"""
    dead_letters_kept_days: Annotated[int, _KEEPERS, Field(ge=1, le=36_500)] = 90
    """for how long dead letters are kept"""
    report_messages_kept_days: Annotated[int, _KEEPERS, Field(ge=1, le=36_500)] = 30
    """for how long the stream `report` keeps its messages"""
    stock_movements_kept_days: Annotated[int, _KEEPERS, Field(ge=1, le=36_500)] = 730
    """after how long stock movements are added up"""
    data_dir: Annotated[Path, ReadBy("one process", "scheduler", "commands")] = ROOT / ".data"
    """where the one-process mode keeps everything; the disk whose space is measured"""
    heartbeat_file: Annotated[Path | None, _WITHOUT_PORT] = None
    """touched every 5 s by a process without a port while it does what it is for, for health
    checks"""
    metrics_host: Annotated[str, _WITHOUT_PORT] = "127.0.0.1"
    """where a process without a port of its own shows [its metrics](monitoring.md)"""
    metrics_port: Annotated[int, _WITHOUT_PORT, Field(ge=0, lt=65536)] = 0
    """its port for them; `0`: it shows none"""
    fail_at: str | None = None
    """for tests only: the point at which the process ends, see app/runtime/failpoints.py"""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """the least important lines that are logged"""
    log_format: Literal["json", "console"] | None = None
    """by default `console` in a terminal, else `json`"""
    log_ordinary_requests: Annotated[int | None, _WEB, Field(ge=0)] = None
    """lines in a second for requests [in which there is nothing to look
    for](running.md#what-the-log-costs); by default each request has one"""
    tracing: bool = False
    """spans of OpenTelemetry, [sent where `OTEL_*` says](monitoring.md#traces); needs the extra
    `tracing`"""

    @model_validator(mode="before")
    @classmethod
    def _read_api_key(cls, values: dict[str, Any]) -> dict[str, Any]:
        if not (path := values.get("api_key_file")):
            return values
        if values.get("api_key"):
            raise ValueError(_BOTH.format("API_KEY"))
        try:
            return values | {"api_key": SecretFile(Path(path))()}
        except OSError as error:
            raise ValueError(_UNREADABLE.format("API_KEY_FILE", error)) from None

    @model_validator(mode="after")
    def _check_servers(self) -> Self:
        if wrong := list(self._wrong()):
            raise ValueError("; ".join(wrong))
        return self

    def _wrong(self) -> Iterator[str]:
        """A line for each, which names the variable."""
        for name in ("postgres_password", "rabbitmq_password", "redis_password"):
            if getattr(self, f"{name}_file") and name in self.model_fields_set:
                yield _BOTH.format(name.upper())
        if self.redis_db > MOST_REDIS_DATABASE and not self.redis_prefix:
            yield f"REDIS_DB: without a REDIS_PREFIX it is at most {MOST_REDIS_DATABASE}"
        for variable, check in self._checks():
            try:
                check()
            except OSError as error:
                yield _UNREADABLE.format(variable, error)
            except ValueError as error:
                yield f"{variable}: {error}"

    def _checks(self) -> Iterator[tuple[str, Callable[[], object]]]:
        """What raises if the variable is wrong."""
        for name in ("postgres", "rabbitmq", "redis"):
            if file := getattr(self, f"{name}_password_file"):
                yield f"{name.upper()}_PASSWORD_FILE", SecretFile(file)
        if self.tls_ca_file:
            yield "TLS_CA_FILE", partial(tls_context, self.tls_ca_file)
        database, redis, rabbitmq = self.database_url, self.redis_url, self.rabbitmq_url
        yield "DATABASE_URL" if database else "DB_HOST", lambda: self.postgresql_address
        yield "REDIS_URL" if redis else "REDIS_HOST", lambda: self.cache_address
        yield "RABBITMQ_URL" if rabbitmq else "RABBITMQ_HOST", lambda: self.rabbitmq_address

    @property
    def rate(self) -> Rate | None:
        """RATE_LIMIT."""
        if not self.rate_limit:
            return None
        most, _, unit = self.rate_limit.partition("/")
        return Rate(int(most), _SECONDS[unit[0]])

    @property
    def has_database(self) -> bool:
        """False means the one-process mode: main.py starts servers of its own."""
        return bool(self.database_url or self.db_host)

    @property
    def has_redis(self) -> bool:
        return bool(self.redis_url or self.redis_host)

    @property
    def has_rabbitmq(self) -> bool:
        return bool(self.rabbitmq_url or self.rabbitmq_host)

    @property
    def is_exposed(self) -> bool:
        """Whether other machines may reach the API."""
        return self.host not in ("127.0.0.1", "localhost", "::1")

    @property
    def default_passwords(self) -> list[str]:
        """The variables in use whose password is still the public default."""
        found = []
        if not self.database_url and self.postgresql_address.password() == "admin":
            found.append("POSTGRES_PASSWORD")
        uses_rabbitmq = self.queue_transport == "rabbitmq" and not self.rabbitmq_url
        if uses_rabbitmq and self.rabbitmq_address.password() == "guest":
            found.append("RABBITMQ_PASSWORD")
        return found

    @property
    def postgresql_address(self) -> PostgresAddress:
        password = _password(self.postgres_password, self.postgres_password_file)
        url = self.database_url or url_of("postgresql", self.db_host or "localhost", self.db_port)
        return PostgresAddress.parse(
            url,
            Login(self.postgres_user, password),
            self.postgres_db,
            self.tls_ca_file,
            self.db_pooler,
        )

    @property
    def rabbitmq_address(self) -> RabbitMQAddress:
        password = _password(self.rabbitmq_password, self.rabbitmq_password_file)
        host = self.rabbitmq_host or "localhost"
        return RabbitMQAddress.parse(
            self.rabbitmq_url or url_of("amqp", host, self.rabbitmq_port, self.rabbitmq_vhost),
            Login(self.rabbitmq_user, password),
            self.rabbitmq_vhost,
            self.tls_ca_file,
            tls=self.rabbitmq_tls,
        )

    def _redis_address(self, further: int) -> RedisAddress:
        password = _password(self.redis_password, self.redis_password_file)
        return RedisAddress.parse(
            self.redis_url or url_of("redis", self.redis_host or "localhost", self.redis_port),
            Login(self.redis_username, password),
            self.redis_db,
            self.tls_ca_file,
            tls=self.redis_tls,
            prefix=self.redis_prefix,
        ).further(further)

    @property
    def cache_address(self) -> RedisAddress:
        return self._redis_address(0)

    @property
    def streams_address(self) -> RedisAddress:
        return self._redis_address(1)

    @property
    def results_address(self) -> RedisAddress:
        return self._redis_address(2)

    @property
    def schedules_address(self) -> RedisAddress:
        return self._redis_address(3)


# All settings.
NAMES = frozenset(Settings.model_fields)

_BOTH = "{0} and {0}_FILE are both set: choose one"
_UNREADABLE = "{0}: cannot read {1.filename} ({1.strerror})"


def _password(value: SecretStr | None, file: Path | None) -> Password:
    if file:
        return SecretFile(file)
    secret = value.get_secret_value() if value else ""
    return lambda: secret


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
        raise SystemExit("wrong configuration: " + "; ".join(map(_line, error.errors()))) from None


def origins() -> dict[str, str]:
    """The settings that are not defaults, each with where it is set."""
    in_file = dict.fromkeys(DotEnvSettingsSource(Settings)(), ".env")
    found = in_file | dict.fromkeys(EnvSettingsSource(Settings)(), "the environment")
    return {name: origin for name, origin in found.items() if name in NAMES}


def names_in_env_file() -> list[str]:
    """All of them, also those that nothing here reads."""
    return [name.upper() for name in DotEnvSettingsSource(Settings).env_vars]


def _line(error: ErrorDetails) -> str:
    """What concerns several variables has no location, and names them itself."""
    text = error["msg"].removeprefix("Value error, ")
    return ": ".join([*(str(name).upper() for name in error["loc"]), text])
