"""Properties of any bytes: what can be read is read, and a dead letter has all of them."""

import random
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from pamqp.header import ContentHeader

from app.messaging import rabbitmq as _  # it makes the library accept any properties
from app.messaging.properties import Repeated, Wire, dead_wire, retried_wire
from harness.amqp_bytes import FLAGS, long, short, some_properties

WHY = {"x-reason": "decode", "x-detail": "\ud800", "x-original-queue": "order"}


def read(wire: Wire, cut: int | None = None) -> Any:
    flags = sum(FLAGS[name] for name in wire)
    properties = b"".join(wire[name] for name in FLAGS if name in wire)
    header = ContentHeader()
    head = struct.pack(">HHQH", 60, 0, 0, flags)
    header.unmarshal(head + properties[:cut])
    return header.properties


def chances(count: int) -> Iterator[random.Random]:
    return (random.Random(seed) for seed in range(count))


def test_a_readable_message_id_is_read_whatever_the_other_properties_are() -> None:
    for chance in chances(3000):
        wire = some_properties(chance) | {"message_id": short("заказ-7".encode())}
        assert read(wire).message_id == "заказ-7", wire


def test_a_readable_property_is_read_beside_an_unreadable_one() -> None:
    table = long(short(b"\xff") + b"t\1" + short(b"when") + b"T\x7f" + b"\xff" * 7)
    table = long(table[4:] + short(b"tenant") + b"S" + long(b"north"))
    wire = {"content_type": short(b"\xff"), "headers": table, "correlation_id": short(b"c-1")}
    found = read(wire | {"timestamp": b"\x7f" + b"\xff" * 7, "app_id": short(b"till")})
    assert (found.content_type, found.timestamp) == (None, None)
    assert (found.headers, found.correlation_id, found.app_id) == (
        {"tenant": "north"},
        "c-1",
        "till",
    )


def test_a_binary_message_id_stays_an_id() -> None:
    assert read({"message_id": short(b"a\xff\xfe")}).message_id == "a\\xff\\xfe"


def test_properties_that_are_cut_off_raise_nothing() -> None:
    for chance in chances(1000):
        wire = some_properties(chance)
        read(wire, cut=chance.randint(0, 60))
        read({name: chance.randbytes(5) for name in wire})


@pytest.mark.parametrize("name", ["x-reason", "x-original-queue", "x-original-x-reason", "tenant"])
def test_a_header_that_is_named_as_ours_is_kept_and_comes_back(name: str) -> None:
    original = {"headers": long(short(name.encode()) + b"S" + long(b"theirs"))}
    dead = dead_wire(original, WHY)
    assert read(dead).headers["x-reason"] == "decode"
    assert "theirs" in read(dead).headers.values()
    assert read(retried_wire(dead, "new", "guest")).headers == {name: "theirs"}


def test_a_retry_has_every_byte_of_the_original() -> None:
    for chance in chances(1000):
        original = some_properties(chance)
        original |= {"message_id": short(b"id"), "expiration": short(b"60000")}
        original["user_id"] = short(b"guest")
        if b"CC" in original.get("headers", b""):  # not sent to other queues again
            continue
        retried = retried_wire(dead_wire(original, WHY), "new", "guest")
        assert retried == {"headers": long(b"")} | original | {"delivery_mode": b"\2"}


def test_a_dead_letter_neither_expires_nor_goes_to_other_queues() -> None:
    original = {"expiration": short(b"1"), "user_id": short(b"shop")}
    original["headers"] = long(short(b"CC") + b"A" + long(b"S" + long(b"order")))
    found = read(dead_wire(original, WHY))
    assert (found.expiration, found.user_id, found.delivery_mode) == (None, None, 2)
    assert found.headers["x-original-CC"] == ["order"] and "CC" not in found.headers
    assert found.headers["x-original-expiration"] == "1"
    assert found.headers["x-original-user-id"] == "shop"
    retried = read(retried_wire(dead_wire(original, WHY), "new", "guest"))
    assert (retried.expiration, retried.user_id, retried.message_id) == ("1", None, "new")
    assert retried.headers == {"x-original-CC": ["order"]}


def test_headers_that_fill_a_frame_leave_room_for_the_reason() -> None:
    original = {"headers": long(short(b"a") + b"S" + long(b"x" * 129_000) + short(b"b") + b"t\1")}
    properties = Repeated(b"", dead_wire(original, WHY)).properties
    assert len(properties.marshal()) < 130_000
    assert read(dead_wire(original, WHY)).headers == WHY | {"x-detail": "\\ud800", "b": True}
