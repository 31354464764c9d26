"""The properties of an AMQP message: read whatever can be read, and sent on byte for byte.

The AMQP library gives up at the first property that it cannot read: text that is not UTF-8, a time
outside the years that Python knows. RabbitMQ passes such messages on.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import structlog
from aio_pika import Message
from pamqp import decode
from pamqp.commands import Basic

from app.messaging.originals import EXPIRATION, USER_ID, kept, restored

log = structlog.get_logger(__name__)

# The bytes of each property, by its name, with the length that begins a string.
Wire = dict[str, bytes]
# A header: its key, and its value with the letter of its type.
Header = tuple[bytes, bytes]

_library_reads: Any = Basic.Properties.unmarshal
_TEXT, _TABLE, _TIMESTAMP, _OCTET = "shortstr", "table", "timestamp", "octet"
_FIXED_SIZES = {_TIMESTAMP: 8, _OCTET: 1}
_VALUE_SIZES = {
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"su", 2),
    **dict.fromkeys(b"Iif", 4),
    **dict.fromkeys(b"lLdT", 8),
    **dict.fromkeys(b"D", 5),
    **dict.fromkeys(b"V\0", 0),
}
_LONG_VALUES = b"SxAF"  # they begin with their length
# All properties travel in one frame, of 131,072 bytes at most.
_MOST_HEADER_BYTES = 120_000


class Headers(dict[str, Any]):
    """The headers of a message, with the bytes of all its properties.

    aio_pika copies the values of the properties only, but the headers as the object that they are:
    so the bytes travel in it."""

    def __init__(self, known: Mapping[str, Any] | None, flags: int, data: bytes) -> None:
        super().__init__(known or {})
        self._flags = flags
        self._data = data

    def __bool__(self) -> bool:
        return True  # else aio_pika would replace an empty one with its own

    @property
    def wire(self) -> Wire:
        return dict(_split(self._flags, self._data))


def accept_any_properties() -> None:
    """Without this, a message with an unreadable property ends the connection that delivers it,
    and the next one, for ever."""
    Basic.Properties.unmarshal = _read  # type: ignore[method-assign, assignment]


def _read(properties: Basic.Properties, flags: int, data: bytes) -> None:
    """Never raises. A property that cannot be read costs that property alone."""
    try:
        _library_reads(properties, flags, data)
    except Exception as error:
        log.warning("unreadable property of a message", error=str(error))
        _read_one_by_one(properties, flags, data)
    if properties.delivery_mode not in (None, 1, 2):
        properties.delivery_mode = None  # aio_pika raises for others
    if not _is_number(properties.expiration):
        properties.expiration = None
    properties.headers = Headers(properties.headers, flags, data)


def _is_number(text: str | None) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return False
    return True


def _read_one_by_one(properties: Basic.Properties, flags: int, data: bytes) -> None:
    for name, wire in _split(flags, data):
        if name == "headers":
            properties.headers = dict(_readable(_headers(wire)))
            continue
        try:
            value = decode.by_type(wire, properties.amqp_type(name))[1]
        except Exception:
            # An id must stay one, so that a repeat is seen: its odd bytes are written as \xff.
            is_id = name == "message_id"
            value = wire[1:].decode(errors="backslashreplace") if is_id else None
        setattr(properties, name, value)


def _split(flags: int, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The bytes of each property, without a look at what they mean. Ends where they are cut off."""
    for name, flag in Basic.Properties.flags.items():
        if flags & flag:
            size = _size(getattr(Basic.Properties, f"_{name}"), data)
            if size is None or size > len(data):
                return
            yield name, data[:size]
            data = data[size:]


def _size(kind: str, data: bytes) -> int | None:
    if kind == _TEXT:
        return 1 + data[0] if data else None
    if kind == _TABLE:
        return 4 + int.from_bytes(data[:4], "big")
    return _FIXED_SIZES[kind]


def _headers(table: bytes) -> Iterator[Header]:
    """The headers of a table. Ends at a value whose length nobody knows."""
    data = table[4:]
    while data:
        key, value = data[1 : 1 + data[0]], data[1 + data[0] :]
        size = _value_size(value)
        if size is None or size > len(value):
            return
        yield key, value[:size]
        data = value[size:]


def _value_size(value: bytes) -> int | None:
    if not value:
        return None
    if value[0] in _LONG_VALUES:
        return 5 + int.from_bytes(value[1:5], "big")
    size = _VALUE_SIZES.get(value[0])
    return None if size is None else 1 + size


def _readable(headers: Iterable[Header]) -> Iterator[tuple[str, Any]]:
    for key, value in headers:
        try:
            yield key.decode(), decode.embedded_value(value)[1]
        except Exception as error:
            log.debug("unreadable header of a message", error=str(error))


class Repeated(Message):
    """A message with properties of which every byte is known."""

    def __init__(self, body: bytes, wire: Wire) -> None:
        super().__init__(body)
        self._properties = _Verbatim(wire)

    @property
    def properties(self) -> Basic.Properties:
        return self._properties


class _Verbatim(Basic.Properties):
    def __init__(self, wire: Wire) -> None:
        # By its id aiormq recognises a message that RabbitMQ returns. It gives one to a message
        # that has none.
        known = wire.get("message_id", b"\0")[1:].decode(errors="backslashreplace")
        super().__init__(message_id=known or None)
        self._wire = wire

    def marshal(self) -> bytes:
        wire = {"message_id": _short(self.message_id or ""), **self._wire}
        present = [name for name in self.flags if name in wire]
        flags = sum(self.flags[name] for name in present)
        return flags.to_bytes(2, "big") + b"".join(wire[name] for name in present)


def dead_wire(original: Wire, why: Mapping[str, str]) -> Wire:
    """The properties of a dead letter: the original's, with `why` among the headers."""
    headers = [(_renamed(key, kept(_text(key))), value) for key, value in _headers_of(original)]
    ours = [_long(name, text.encode(errors="backslashreplace")) for name, text in why.items()]
    for name, header in (("expiration", EXPIRATION), ("user_id", USER_ID)):
        if text := original.get(name):
            ours.append(_long(header, text[1:]))
    return _persistent(original, [*ours, *headers])


def retried_wire(dead: Wire, message_id: str, user: str) -> Wire:
    """The properties that the original had. `message_id` is for a letter without one; RabbitMQ lets
    only `user` itself send its user id."""
    headers, wire = [], dict(dead)
    if wire.get("message_id", _short("")) == _short(""):
        wire["message_id"] = _short(message_id)
    for key, value in _headers_of(dead):
        text = _text(key)
        if text == EXPIRATION and value[5:].isdigit():
            wire["expiration"] = _short(value[5:].decode())
        elif text == USER_ID and value[5:] == user.encode():
            wire["user_id"] = _short(user)
        elif (name := restored(text)) is not None:
            headers.append((_renamed(key, name), value))
    return _persistent(wire, headers, {"expiration", "user_id"} & wire.keys())


def _headers_of(wire: Wire) -> Iterator[Header]:
    return _headers(wire.get("headers", b""))


def _persistent(wire: Wire, headers: Iterable[Header], more: Iterable[str] = ()) -> Wire:
    left_out = {"headers", "expiration", "user_id"} - set(more)
    table = b"".join(_fitting(headers))
    return {name: text for name, text in wire.items() if name not in left_out} | {
        "headers": len(table).to_bytes(4, "big") + table,
        "delivery_mode": b"\x02",
    }


def _fitting(headers: Iterable[Header]) -> Iterator[bytes]:
    room = _MOST_HEADER_BYTES
    for key, value in headers:
        entry = len(key).to_bytes(1, "big") + key + value
        if len(entry) > room:
            log.warning("a header is too large for a dead letter", header=_text(key))
            continue
        room -= len(entry)
        yield entry


def _text(key: bytes) -> str:
    return key.decode("latin-1")  # any bytes, and back


def _renamed(key: bytes, name: str) -> bytes:
    new = name.encode("latin-1")
    return new if len(new) < 256 else key


def _short(text: str) -> bytes:
    data = text.encode(errors="backslashreplace")[:255]
    return len(data).to_bytes(1, "big") + data


def _long(name: str, data: bytes) -> Header:
    return name.encode(), b"S" + len(data).to_bytes(4, "big") + data
