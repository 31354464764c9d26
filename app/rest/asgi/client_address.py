"""From which address a request comes."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from app.settings import networks_in

_Address = IPv4Address | IPv6Address


# What uvicorn knows of the other end: None if it is a socket in the file system.
Connection = tuple[str, int] | None


class ClientAddresses:
    def __init__(self, trusted_proxies: str) -> None:
        self._proxies = networks_in(trusted_proxies)
        self._of = lru_cache(4096)(self._find)

    def of(self, connection: Connection, headers: Mapping[bytes, bytes]) -> str:
        """For IPv6 the network of 64 bits: a client has all of it."""
        # The last of several such headers: what a proxy adds stands behind what it was sent.
        forwarded = headers.get(b"x-forwarded-for", b"") if self._proxies else b""
        return self._of(connection[0] if connection else "", forwarded)

    def _find(self, connected: str, forwarded: bytes) -> str:
        """The last address that is no proxy of ours. What stands before it, it may have made up."""
        found = _parsed(connected)
        names = forwarded.decode("latin-1").split(",")
        while found and names and self._is_proxy(found):
            found = _parsed(names.pop()) or found
        return _named(found) if found else connected

    def _is_proxy(self, address: _Address) -> bool:
        return any(address in network for network in self._proxies)


def _parsed(text: str) -> _Address | None:
    """Some proxies add the port."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _named(address: _Address) -> str:
    return str(IPv6Network((address, 64), strict=False) if address.version == 6 else address)
