"""Where the servers are and how to log in, from addresses as the world writes them.

What an address leaves out (user, password, database, vhost) comes from its neighbours in
`settings.py`. Whatever is wrong with it is a ValueError of one line, which shows no password."""

import errno
import re
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

# Asked at each login: a file may have another password by then.
Password = Callable[[], str]
# `prepared`: it keeps prepared statements, as PgBouncer does in session mode, and from 1.21 on in
# transaction mode. `transaction`: it does not.
Pooler = Literal["prepared", "transaction"]

_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::(\d+))?")
_TRUE = ("1", "true", "yes")
# These are our own limits, or have no meaning for our driver.
_OURS = {"connect_timeout", "gssencmode", "channel_binding", "keepalives", "keepalives_idle"}
MOST_REDIS_DATABASE = 12  # of the sixteen, three more are ours
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSIONS = ("any", "primary", "standby", "read-write", "read-only")


class Login(NamedTuple):
    user: str
    password: Password


@dataclass(frozen=True)
class SecretFile:
    """A password in a file of its own, as Docker and Kubernetes hand it in."""

    path: Path

    def __call__(self) -> str:
        """Raises OSError, also while it is empty, as for a moment when it is written."""
        secret = self.path.read_text(encoding="utf-8", errors="replace").rstrip("\r\n")
        if not secret:
            raise OSError(errno.ENODATA, "it is empty", f"{self.path}")
        return secret


def url_of(scheme: str, host: str, port: int, path: str = "") -> str:
    """The host may be an IPv6 address, with brackets or without, or the directory of a socket."""
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    place = f"{scheme}://{quote(host, safe='[]:%')}:{port}"
    return f"{place}/{quote(path, safe='')}" if path else place


def tls_context(
    ca_file: str | None,
    certificate: tuple[str, str | None] | None = None,
    *,
    verify: bool = True,
    verify_name: bool = True,
) -> ssl.SSLContext:
    """Without a CA file, the authorities that this machine trusts.

    Not `create_default_context`: from Python 3.13 on it refuses the certificates of authorities
    that lack what RFC 5280 asks of them, as those of several hosts of databases do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = verify and verify_name
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
        elif verify:
            context.load_default_certs()
        if certificate:
            context.load_cert_chain(*certificate)
    except OSError as error:  # an SSLError is one too
        files = " and ".join(filter(None, [ca_file, *(certificate or ())]))
        raise ValueError(f"cannot read the certificates in {files} ({error.strerror})") from None
    return context


class _Url(NamedTuple):
    scheme: str
    user: str
    password: str
    hosts: list[tuple[str, int | None]]
    path: str
    query: dict[str, str]

    @classmethod
    def parse(cls, url: str, schemes: Collection[str], known: Collection[str]) -> Self:
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError("write special characters in user and password as %XX") from None
        if parts.scheme not in schemes:
            raise ValueError(f"begin it with {'://, '.join(schemes)}://")
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := query.keys() - known:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        return cls(
            parts.scheme,
            unquote(user),
            unquote(password),
            [_host_and_port(host) for host in hosts.split(",")],
            unquote(parts.path.removeprefix("/")),
            query,
        )

    def login(self, otherwise: Login) -> Login:
        password = self.password
        return Login(
            self.user or otherwise.user, (lambda: password) if password else otherwise.password
        )


def _host_and_port(text: str) -> tuple[str, int | None]:
    found = _HOST.fullmatch(text)
    if found is None or int(found[2] or 1) not in range(1, 65_536):
        raise ValueError("write it as scheme://user:password@host:port/path, with %XX where needed")
    return unquote(found[1].strip("[]")), int(found[2]) if found[2] else None


@dataclass(frozen=True)
class PostgresAddress:
    hosts: tuple[tuple[str, int], ...]
    user: str
    password: Password = field(repr=False)
    database: str
    tls: ssl.SSLContext | None
    tls_is_optional: bool
    target_session_attrs: str
    # Sent when a connection starts.
    parameters: Mapping[str, str]
    pooler: Pooler | None

    _KNOWN = (
        *("host", "port", "sslmode", "ssl", "sslrootcert", "sslcert", "sslkey"),
        *("target_session_attrs", "application_name", "options", *sorted(_OURS)),
    )

    @classmethod
    def parse(
        cls,
        url: str,
        otherwise: Login,
        database: str = "",
        ca_file: str | None = None,
        pooler: Pooler | None = None,
    ) -> Self:
        """As libpq reads it, but nothing of it comes from the environment or the home directory,
        and without `sslmode` there is no TLS."""
        schemes = ("postgresql", "postgres", "postgresql+asyncpg")
        parts = _Url.parse(url, schemes, cls._KNOWN)
        hosts = _postgres_hosts(parts)
        sessions = parts.query.get("target_session_attrs")
        if sessions is None:  # every process of ours writes
            sessions = "any" if len(hosts) == 1 else "read-write"
        if sessions not in _SESSIONS:
            raise ValueError(f"target_session_attrs is one of {', '.join(_SESSIONS)}")
        mode = _ssl_mode(parts.query)
        return cls(
            hosts,
            *parts.login(otherwise),
            parts.path or database,
            _postgres_tls(mode, parts.query, ca_file),
            mode in ("allow", "prefer"),
            sessions,
            {n: v for n, v in parts.query.items() if n in ("application_name", "options")},
            pooler,
        )

    @property
    def place(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self.hosts)


def _postgres_hosts(parts: _Url) -> tuple[tuple[str, int], ...]:
    """`host` and `port` may stand in the query: a socket's directory fits nowhere else."""
    found = parts.hosts
    if parts.query.get("host"):
        found = [_host_and_port(host) for host in parts.query["host"].split(",")]
    default = parts.query.get("port", "5432")
    if not default.isdecimal():
        raise ValueError("port is a number")
    return tuple((host or "localhost", port or int(default)) for host, port in found)


def _ssl_mode(query: Mapping[str, str]) -> str:
    mode = query.get("sslmode") or query.get("ssl", "disable")
    mode = "require" if mode in _TRUE else mode
    if mode not in _SSL_MODES:
        raise ValueError(f"sslmode is one of {', '.join(_SSL_MODES)}")
    if mode == "disable" and "sslrootcert" in query:
        raise ValueError("sslrootcert needs sslmode=verify-full")
    return mode


def _postgres_tls(
    mode: str, query: Mapping[str, str], ca_file: str | None
) -> ssl.SSLContext | None:
    if mode == "disable":
        return None
    root = query.get("sslrootcert", ca_file)
    certificate = (query["sslcert"], query.get("sslkey")) if "sslcert" in query else None
    # As with libpq, `require` checks the authority if it is told which.
    verify = mode.startswith("verify") or (mode == "require" and root is not None)
    return tls_context(
        None if root == "system" else root,
        certificate,
        verify=verify,
        verify_name=mode == "verify-full",
    )


@dataclass(frozen=True)
class RedisAddress:
    """`prefix` begins every key."""

    place: str
    number: int
    user: str
    password: Password = field(repr=False)
    tls: ssl.SSLContext | None
    prefix: str

    _KNOWN = (
        *("db", "ssl_ca_certs", "ssl_cert_reqs", "ssl_check_hostname"),
        *("ssl_certfile", "ssl_keyfile"),
    )

    @classmethod
    def parse(
        cls,
        url: str,
        otherwise: Login,
        database: int,
        ca_file: str | None,
        *,
        tls: bool = False,
        prefix: str = "",
    ) -> Self:
        parts = _Url.parse(url, ("redis", "rediss", "unix"), cls._KNOWN)
        if len(parts.hosts) > 1:
            raise ValueError(
                "it names one host: several hosts and sharded clusters are not supported"
            )
        host, port = parts.hosts[0]
        is_socket = parts.scheme == "unix"
        given = parts.query.get("db") or ("" if is_socket else parts.path)
        if given and not (given.isdecimal() and (prefix or int(given) <= MOST_REDIS_DATABASE)):
            raise ValueError(f"its database is a number up to {MOST_REDIS_DATABASE}")
        if is_socket:
            place = f"unix:///{quote(parts.path)}"
        else:
            place = url_of("redis", host or "localhost", port or 6379)
        encrypted = not is_socket and (tls or parts.scheme == "rediss")
        context = _redis_tls(parts.query, ca_file) if encrypted else None
        return cls(place, int(given or database), *parts.login(otherwise), context, prefix)

    @property
    def url(self) -> str:
        """Without the login."""
        place = self.place.replace("redis", "rediss", 1) if self.tls else self.place
        return f"{place}?db={self.number}" if "unix" in place else f"{place}/{self.number}"

    def further(self, number: int) -> Self:
        """Another of our databases. With a prefix, all are one."""
        return self if self.prefix else replace(self, number=self.number + number)


def _redis_tls(query: Mapping[str, str], ca_file: str | None) -> ssl.SSLContext:
    requirement = query.get("ssl_cert_reqs", "required")
    if requirement not in ("required", "none"):
        raise ValueError("ssl_cert_reqs is required or none")
    certificate = None
    if "ssl_certfile" in query:
        certificate = query["ssl_certfile"], query.get("ssl_keyfile")
    return tls_context(
        query.get("ssl_ca_certs", ca_file),
        certificate,
        verify=requirement == "required",
        verify_name=query.get("ssl_check_hostname", "true").lower() in _TRUE,
    )


@dataclass(frozen=True)
class RabbitMQAddress:
    host: str
    port: int
    vhost: str
    user: str
    password: Password = field(repr=False)
    tls: ssl.SSLContext | None

    _KNOWN = (
        *("cafile", "cacertfile", "certfile", "keyfile", "no_verify_ssl", "verify"),
        *("heartbeat", "connection_timeout"),  # ours win
    )

    @classmethod
    def parse(
        cls, url: str, otherwise: Login, vhost: str, ca_file: str | None, *, tls: bool = False
    ) -> Self:
        parts = _Url.parse(url, ("amqp", "amqps"), cls._KNOWN)
        if len(parts.hosts) > 1:
            raise ValueError("it names one host: put a balancer in front of a cluster")
        host, port = parts.hosts[0]
        tls = tls or parts.scheme == "amqps"
        context = _rabbitmq_tls(parts.query, ca_file) if tls else None
        if urlsplit(url).path == "/":  # the vhost that is named so
            vhost = "/"
        return cls(
            host or "localhost",
            port or (5671 if tls else 5672),
            parts.path or vhost,
            *parts.login(otherwise),
            context,
        )

    @property
    def url(self) -> str:
        """With the password of this moment."""
        login = f"{quote(self.user, safe='')}:{quote(self.password(), safe='')}"
        return f"{'amqps' if self.tls else 'amqp'}://{login}@{self.place}"

    @property
    def place(self) -> str:
        return url_of("", self.host, self.port, self.vhost).removeprefix("://")


def _rabbitmq_tls(query: Mapping[str, str], ca_file: str | None) -> ssl.SSLContext:
    certificate = (query["certfile"], query.get("keyfile")) if "certfile" in query else None
    unverified = query.get("no_verify_ssl", "0") in _TRUE or query.get("verify") == "verify_none"
    root = query.get("cafile", query.get("cacertfile", ca_file))
    return tls_context(root, certificate, verify=not unverified)
