"""Builds hostile HTTP requests byte by byte: client libraries refuse to send many of them."""

from typing import NamedTuple


class Hostile(NamedTuple):
    raw: bytes
    statuses: set[int]


def request(  # pylint: disable=keyword-arg-before-vararg
    method: str, target: str | bytes, body: bytes | None = None, *headers: bytes, **named: str
) -> bytes:
    path = target.encode() if isinstance(target, str) else target
    lines = [method.encode() + b" " + path + b" HTTP/1.1", b"connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}".encode() for name, value in named.items()]
    lines += headers
    if not any(line.lower().startswith(b"host:") for line in lines):
        lines.append(b"host: localhost")
    if body is not None:
        lines.append(b"content-length: %d" % len(body))
        if not any(line.lower().startswith(b"content-type:") for line in lines):
            lines.append(b"content-type: application/json")
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")
