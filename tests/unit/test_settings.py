"""Variables become URLs, and an invalid one is reported in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from app.settings import ROOT, Settings, load_settings

AWKWARD = "p@ss:w/ord?#%25 ü"


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


def test_the_defaults() -> None:
    found = settings()
    assert not found.has_database
    assert (found.host, found.port) == ("127.0.0.1", 8000)
    postgresql = found.postgresql_address
    assert (postgresql.hosts, postgresql.database) == ((("localhost", 5432),), "lab_db2")
    assert (postgresql.user, postgresql.password(), postgresql.tls) == ("admin", "admin", None)
    assert found.rabbitmq_address.url == "amqp://guest:guest@localhost:5672/local"
    assert found.cache_address.url == "redis://localhost:6379/0"
    assert found.data_dir == ROOT / ".data"


def test_a_password_may_have_any_character() -> None:
    found = settings(
        db_host="db",
        postgres_user="us/er",
        postgres_password=AWKWARD,
        postgres_db="my db",
        rabbitmq_host="rabbitmq",
        rabbitmq_user="us@er",
        rabbitmq_password=AWKWARD,
        rabbitmq_vhost="/",
    )
    assert found.has_database
    postgresql = found.postgresql_address
    assert (postgresql.user, postgresql.password()) == ("us/er", AWKWARD)
    assert (postgresql.hosts, postgresql.database) == ((("db", 5432),), "my db")
    rabbitmq = urlsplit(found.rabbitmq_address.url)
    login = unquote(rabbitmq.username or ""), unquote(rabbitmq.password or "")
    assert login == ("us@er", AWKWARD)
    assert (rabbitmq.hostname, rabbitmq.path) == ("rabbitmq", "/%2F")


def test_every_use_of_redis_has_a_database_of_its_own() -> None:
    found = settings(redis_host="redis", redis_db=4)
    assert _redis_urls(found) == [f"redis://redis:6379/{number}" for number in (4, 5, 6, 7)]


def test_with_a_prefix_one_database_of_redis_is_enough() -> None:
    found = settings(redis_host="redis", redis_db=14, redis_prefix="shop:")
    assert _redis_urls(found) == ["redis://redis:6379/14"] * 4


def _redis_urls(found: Settings) -> list[str]:
    addresses = (
        *(found.cache_address, found.streams_address),
        *(found.results_address, found.schedules_address),
    )
    return [address.url for address in addresses]


def test_no_secret_is_shown() -> None:
    found = settings(postgres_password=AWKWARD, rabbitmq_password=AWKWARD)
    assert AWKWARD not in repr(found)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """docker-compose.yml passes `VARIABLE=` for what is not set."""
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / "none")
    for name in ("DATABASE_URL", "DB_HOST", "PORT", "REDIS_HOST", "HEARTBEAT_FILE"):
        monkeypatch.setenv(name, "")
    found = load_settings()
    assert (found.has_database, found.port, found.redis_host) == (False, 8000, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("DB_PORT", "-1"),
        ("REDIS_DB", "13"),
        ("REDIS_DECODE_RESPONSES", "perhaps"),
        ("WORKER_CONCURRENCY", "0"),
        ("REPORT_TIMEZONE", "Mars/Olympus"),
        ("ALLOWED_HOSTS", "localhost,shop.example:443"),
        ("ALLOWED_HOSTS", "shop.*"),
        ("ALLOWED_HOSTS", "https://shop.example"),
        ("RATE_LIMIT", "100"),
        ("RATE_LIMIT", "0/s"),
        ("RATE_LIMIT", "10/day"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "nginx"),
        ("CORS_ORIGINS", "shop.example"),
        ("CORS_ORIGINS", "https://shop.example/"),
        ("CORS_ORIGINS", "https://shop.example:443"),
        ("CORS_ORIGINS", "https://Shop.example"),
        ("CORS_ORIGINS", "https://*.example"),
        ("CORS_ORIGINS", "*,https://shop.example"),
        ("CORS_ORIGINS", "null"),
        ("REPORT_TIMEZONE", "../../etc/passwd"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("QUEUE_TRANSPORT", "pigeon"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_it(
    name: str, value: str, complaint: Callable[[str, str], str]
) -> None:
    line = complaint(name, value)
    assert line.startswith("wrong configuration: ")
    assert f"{name}: " in line and "\n" not in line


def test_the_env_file_is_the_one_in_the_root_from_any_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("PORT=1\n")
    assert Settings.model_config["env_file"] == ROOT / ".env"
    assert (ROOT / "app" / "settings.py").exists()
    assert load_settings().port != 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_an_env_file_in_another_encoding_is_one_line_that_names_it(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=grün\n", encoding=encoding)
    monkeypatch.setattr("app.settings.ROOT", tmp_path)
    with pytest.raises(SystemExit) as error:
        load_settings()
    assert str(error.value) == (
        f"{tmp_path / '.env'} is not text in UTF-8: save it again with that encoding"
    )


def test_a_byte_order_mark_does_not_hide_the_first_variable(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_USER=anna\n", encoding="utf-8-sig")
    assert Settings(_env_file=tmp_path / ".env").postgres_user == "anna"
