"""Addresses as hosts of servers hand them out."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from app.settings import Settings, load_settings


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_a_database_url_wins_over_its_neighbours(scheme: str) -> None:
    url = f"{scheme}://anna:p%40ss@db.example:6543/shop"
    found = settings(database_url=url, db_host="other", postgres_password="other")
    address = found.postgresql_address
    assert found.has_database
    assert (address.hosts, address.database) == ((("db.example", 6543),), "shop")
    assert (address.user, address.password()) == ("anna", "p@ss")
    assert (address.tls, address.target_session_attrs) == (None, "any")


def test_what_a_url_leaves_out_comes_from_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    found = settings(
        database_url="postgres://db.example",
        postgres_password_file=tmp_path / "password",
        rabbitmq_url="amqps://rabbit.example",
        rabbitmq_user="worker",
        redis_url="rediss://redis.example",
        redis_db=3,
        redis_username="shop",
        redis_password="secret",
    )
    database, rabbitmq, redis = (
        *(found.postgresql_address, found.rabbitmq_address),
        found.cache_address,
    )
    assert (database.hosts, database.database) == ((("db.example", 5432),), "lab_db2")
    assert (database.user, database.password()) == ("admin", "from a file")
    assert rabbitmq.url == "amqps://worker:guest@rabbit.example:5671/local"
    assert (redis.url, redis.user) == ("rediss://redis.example:6379/3", "shop")
    assert redis.password() == "secret"


def test_several_hosts_are_asked_for_the_one_that_takes_writes() -> None:
    url = "postgres://u:p@one,two:5433,[::1]:5434/shop"
    address = settings(database_url=url).postgresql_address
    assert address.hosts == (("one", 5432), ("two", 5433), ("::1", 5434))
    assert address.target_session_attrs == "read-write"
    address = settings(database_url=f"{url}?target_session_attrs=primary").postgresql_address
    assert address.target_session_attrs == "primary"


@pytest.mark.parametrize(
    ("mode", "verified", "named"),
    [
        ("prefer", False, False),
        ("require", False, False),
        ("verify-ca", True, False),
        ("verify-full", True, True),
    ],
)
def test_the_modes_of_tls(mode: str, verified: bool, named: bool) -> None:
    tls = settings(database_url=f"postgres://h/d?sslmode={mode}").postgresql_address.tls
    assert tls is not None
    assert tls.verify_mode == (ssl.CERT_REQUIRED if verified else ssl.CERT_NONE)
    assert tls.check_hostname == named


@pytest.mark.parametrize("name", ["sslrootcert", "TLS_CA_FILE"])
def test_require_checks_the_authority_if_it_is_told_which(name: str, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    found = (
        settings(database_url="postgres://h/d?sslmode=require", tls_ca_file=str(file))
        if name == "TLS_CA_FILE"
        else settings(database_url=f"postgres://h/d?sslmode=require&sslrootcert={file}")
    )
    tls = found.postgresql_address.tls
    assert tls is not None and tls.verify_mode == ssl.CERT_REQUIRED and not tls.check_hostname


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_host_needs_no_brackets(host: str) -> None:
    found = settings(db_host=host, redis_host=host, rabbitmq_host=host)
    assert found.postgresql_address.hosts == (("::1", 5432),)
    assert found.cache_address.url == "redis://[::1]:6379/0"
    assert found.rabbitmq_address.url == "amqp://guest:guest@[::1]:5672/local"


def test_sockets_of_the_same_machine() -> None:
    found = settings(db_host="/run/postgresql", redis_url="unix://u:p@/run/My.sock?db=2")
    assert found.postgresql_address.hosts == (("/run/postgresql", 5432),)
    assert found.results_address.url == "unix:///run/My.sock?db=4"
    found = settings(database_url="postgres://u:p@/shop?host=/run/My.dir&port=6432")
    assert found.postgresql_address.hosts == (("/run/My.dir", 6432),)


@pytest.mark.parametrize(
    ("url", "vhost"), [("amqp://h", "local"), ("amqp://h/", "/"), ("amqp://h/a%2Fb", "a/b")]
)
def test_the_vhost_of_a_url(url: str, vhost: str) -> None:
    assert settings(rabbitmq_url=url).rabbitmq_address.vhost == vhost


def test_tls_without_a_url() -> None:
    found = settings(redis_host="r", redis_tls=True, rabbitmq_host="q", rabbitmq_tls=True)
    assert found.cache_address.url.startswith("rediss://") and found.cache_address.tls
    assert found.rabbitmq_address.url.startswith("amqps://") and found.rabbitmq_address.tls


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://u:secret@h/d"),
        ("DATABASE_URL", "postgres://u:secret[@h/d"),
        ("DATABASE_URL", "postgres://u:secret@h:x/d"),
        ("DATABASE_URL", "postgres://u:secret@h:99999/d"),
        ("DATABASE_URL", "postgres://u:secret@h/d?sslmode=sometimes"),
        ("DATABASE_URL", "postgres://u:secret@h/d?sslrootcert=/nowhere"),
        ("DATABASE_URL", "postgres://u:secret@h/d?sslmode=require&sslrootcert=/nowhere"),
        ("DATABASE_URL", "postgres://u:secret@h/d?target_session_attrs=fast"),
        ("DATABASE_URL", "postgres://u:secret@h/d?pgbouncer=true"),
        ("DB_POOLER", "pgpool"),
        ("REDIS_URL", "http://u:secret@h"),
        ("REDIS_URL", "redis://u:secret@h/13"),
        ("REDIS_URL", "redis://u:secret@a,b/0"),
        ("REDIS_URL", "rediss://u:secret@h/0?ssl_cert_reqs=perhaps"),
        ("REDIS_URL", "rediss://u:secret@h/0?ssl_ca_certs=/nowhere"),
        ("RABBITMQ_URL", "amqp://u:secret@a,b/"),
        ("RABBITMQ_URL", "amqps://u:secret@h?cafile=/nowhere"),
        ("RABBITMQ_URL", "amqps://u:secret@h?secure=yes"),
        ("TLS_CA_FILE", "/nowhere"),
        *((f"{n}_PASSWORD_FILE", "/nowhere") for n in ("POSTGRES", "REDIS", "RABBITMQ")),
        *((f"{n}_PASSWORD_FILE", "/dev/null") for n in ("POSTGRES", "REDIS", "RABBITMQ")),
        ("API_KEY_FILE", "/nowhere"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_variable(
    name: str, value: str, complaint: Callable[[str, str], str]
) -> None:
    line = complaint(name, value)
    assert line.startswith(f"wrong configuration: {name}: ")
    assert "\n" not in line and "secret" not in line


@pytest.mark.parametrize(
    "name", ["API_KEY", "POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "REDIS_PASSWORD"]
)
def test_a_secret_is_set_once(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("one")
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / "none")
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    found = load_settings()
    if name == "API_KEY":
        assert found.api_key and found.api_key.get_secret_value() == "one"
    monkeypatch.setenv(name, "another")
    with pytest.raises(SystemExit, match=f"{name} and {name}_FILE are both set"):
        load_settings()


def test_no_url_shows_its_password() -> None:
    found = settings(
        database_url="postgres://u:secret@h/d",
        redis_url="redis://u:secret@h/0",
        rabbitmq_url="amqp://u:secret@h/v",
    )
    shown = (found, found.postgresql_address, found.cache_address, found.rabbitmq_address)
    assert "secret" not in repr(shown)
