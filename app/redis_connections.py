"""How the clients of Redis connect and log in."""

import ssl
from typing import Any

from redis import SSLConnection as BlockingSSLConnection
from redis.asyncio import SSLConnection
from redis.credentials import CredentialProvider

from app.server_addresses import RedisAddress


class _Credentials(CredentialProvider):
    def __init__(self, address: RedisAddress) -> None:
        self._address = address

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._address.password()
        return (self._address.user, password) if self._address.user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


class _TlsConnection(SSLConnection):
    """redis-py makes a context for every connection, which takes longer than a call of the cache
    may. This one is made once."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = tls


class _BlockingTlsConnection(BlockingSSLConnection):
    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        return self._tls.wrap_socket(sock, server_hostname=self.host)


def connection_options(address: RedisAddress, *, blocking: bool = False) -> dict[str, Any]:
    """Arguments for whatever takes a `url` and passes the rest on to redis-py."""
    options: dict[str, Any] = {"url": address.url}
    if address.user or address.password():
        options["credential_provider"] = _Credentials(address)
    if address.tls:
        # With rediss:// the class of the connections would be redis-py's.
        options["url"] = address.url.replace("rediss://", "redis://", 1)
        options["connection_class"] = _BlockingTlsConnection if blocking else _TlsConnection
        options["tls"] = address.tls
    return options
