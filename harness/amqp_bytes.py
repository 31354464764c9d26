"""The bytes of AMQP properties, also such as no client library makes."""

import random
import struct
from collections.abc import Mapping

from pamqp.commands import Basic

FLAGS = Basic.Properties.flags
_LENGTHS = {b"b": 1, b"s": 2, b"I": 4, b"l": 8, b"d": 8, b"T": 8, b"D": 5, b"t": 1, b"V": 0}


class Bytes(Basic.Properties):
    """Properties of any bytes, by their names."""

    def __init__(self, wire: Mapping[str, bytes]) -> None:
        super().__init__()
        self._bytes = wire

    def marshal(self) -> bytes:
        present = [name for name in FLAGS if name in self._bytes]
        flags = sum(FLAGS[name] for name in present)
        return struct.pack(">H", flags) + b"".join(self._bytes[name] for name in present)


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def long(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def some_bytes(chance: random.Random, most: int = 12) -> bytes:
    length = chance.randint(0, most)
    return chance.choice([chance.randbytes(length), b"x" * length])


def some_value(chance: random.Random, depth: int = 0) -> bytes:
    kind = chance.choice([*_LENGTHS, b"S", b"x", *([b"F", b"A"] if depth < 5 else [])])
    if kind in _LENGTHS:
        return kind + chance.randbytes(_LENGTHS[kind])
    if kind == b"F":
        return kind + some_table(chance, depth + 1)
    if kind == b"A":
        return kind + long(b"".join(some_value(chance, depth + 1) for _ in range(3)))
    return kind + long(some_bytes(chance))


def some_table(chance: random.Random, depth: int = 0) -> bytes:
    names = [some_bytes(chance), b"CC", b"x-reason", b"x-original-CC", b"x-original-queue", b"k"]
    keys = (chance.choice(names) for _ in range(chance.randint(0, 5)))
    return long(b"".join(short(key) + some_value(chance, depth) for key in keys))


def some_properties(chance: random.Random) -> dict[str, bytes]:
    wire = {}
    for name in FLAGS:
        if chance.random() < 0.7:
            kind = getattr(Basic.Properties, f"_{name}")
            fixed = {"octet": 1, "timestamp": 8}.get(kind)
            if kind == "table":
                wire[name] = some_table(chance)
            else:
                wire[name] = chance.randbytes(fixed) if fixed else short(some_bytes(chance))
    return wire
