"""Hostile messages. Simpler poison is in tests/integration/test_queue_poison.py."""

import gzip
import json
import os
import pickle
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.queues import Queue

PRODUCT = {"name": "Green tea", "price": "19.90", "stock_quantity": 5}
_LINE = {"product_id": 1, "quantity": 1}


@dataclass(frozen=True)
class Hostile:
    """`properties` are AMQP's; streams have none."""

    status: str
    queue: Queue = Queue.PRODUCT
    body: bytes = json.dumps(PRODUCT).encode()
    properties: dict[str, Any] = field(default_factory=dict)


class _Executes:
    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self._file}",)


def pickled(file: Path) -> bytes:
    """A pickle that creates the file when it is loaded."""
    return pickle.dumps(_Executes(file))


def _product(**fields: Any) -> Hostile:
    return Hostile("dead", body=json.dumps(PRODUCT | fields).encode())


def _raw(body: bytes, queue: Queue = Queue.PRODUCT) -> Hostile:
    return Hostile("dead", queue, body)


def _order(status: str = "dead", **fields: Any) -> Hostile:
    body = {"user_id": 1, "delivery_address_id": 1, "items": [_LINE]} | fields
    return Hostile(status, Queue.ORDER, json.dumps(body).encode())


def _update(status: str = "dead", **fields: Any) -> Hostile:
    return Hostile(status, Queue.PRODUCT_UPDATE, json.dumps({"product_id": 1} | fields).encode())


def _step(outcome: str = "dead", **fields: Any) -> Hostile:
    return Hostile(outcome, Queue.ORDER_UPDATE, json.dumps(fields).encode())


def _with(**properties: Any) -> Hostile:
    """A valid body with odd properties: only the body counts."""
    return Hostile("applied", properties=properties)


_BODIES = {
    "gzip bomb": _raw(gzip.compress(bytes(10 * 1024 * 1024), mtime=0)),
    "ten megabytes": _raw(b" " * (10 * 1024 * 1024)),
    "deep objects": _raw(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "deep inside a field": _raw(b'{"name": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "a byte order mark": _raw(b"\xef\xbb\xbf{}"),
    "UTF-16": _raw(json.dumps(PRODUCT).encode("utf-16")),
    "single quotes": _raw(b"{'name': 'x'}"),
    "two documents": _raw(b"{}{}"),
    "a trailing comma": _raw(b'{"name": "x",}'),
    "minus infinity": _raw(b'{"name": "x", "price": -Infinity, "stock_quantity": 1}'),
    "price 1e-400": _raw(b'{"name": "x", "price": 1e-400, "stock_quantity": -1}'),
}
_FIELDS = {
    "price '1e5'": _product(price="1e5"),
    "price in Arabic digits": _product(price="١٢"),
    "price -1": _product(price=-1),
    "price true": _product(price=True),
    "stock true": _product(stock_quantity=True),
    "stock '5'": _product(stock_quantity="5"),
    "stock 2^63": _product(stock_quantity=2**63),
    "stock 2^64": _product(stock_quantity=2**64),
    "a list as the name": _product(name=["x"]),
    "a name of 100,000 characters": _product(name="x" * 100_000),
    "a name with a line break": _product(name="x\r\ny"),
    "an escape sequence": _product(name="\x1b[2Jx"),
    "mass assignment": _product(id=1),
    "an unknown field with NUL": _product(**{"a\0b": 1}),
    "an unknown field of 200,000 characters": _product(**{"x" * 200_000: 1}),
    "an unknown field of line breaks": _product(**{"a\r\nb\u2028c": 1}),
    "an unknown field of emoji": _product(**{"\U0001f600" * 1000: 1}),
    "a surrogate as a field": _raw(b'{"\\udc00": 1}'),
    "10,000 lines": _order(items=[_LINE] * 10_000),
    "lines in an object": _order(items={"0": _LINE}),
    "a number as a line": _order(items=[1]),
    "user 0": _order(user_id=0),
    "user -1": _order(user_id=-1),
    "user 1.5": _order(user_id=1.5),
    "user null": _order(user_id=None),
    "a user that does not exist": _order("rejected", user_id=2_000_000_000),
    "an external id with NUL": _order(external_id="a\0"),
    "ordered at infinity": _order(ordered_at="infinity"),
    "ordered before the year 1 in UTC": _order(ordered_at="0001-01-01T00:00:00+14:00"),
    "an update of a product that does not exist": _update(
        "rejected", product_id=2_000_000_000, price="1"
    ),
    "an update with null": _update(name=None),
    "a step of an order that does not exist": _step(
        "rejected", order_id=2_000_000_000, status="cancelled"
    ),
    "a list as the status": _step(order_id=1, status=["cancelled"]),
    "an id beyond int8": _step(order_id=10**30, status="cancelled"),
}
_PROPERTIES = {
    "'; DROP TABLE messages; --": _with(),
    "идентификатор-" + "ж" * 100: _with(),
    "x" * 255: _with(),
    "../../etc/passwd": _with(),
    "odd headers": _with(
        headers={
            "table": {"a": {"b": [1, None, True]}},
            "moment": datetime(2100, 1, 1, tzinfo=UTC),
            "decimal": Decimal("1.5"),
            "bytes": bytearray(b"\xff\xfe"),
            "long": "x" * 50_000,
            "x-reason": "mine",
            "content-type": ["no", "text"],
            "x-death": [{"count": 2**40}],
        }
    ),
    "odd headers on poison": Hostile(
        "dead", body=b"{", properties={"headers": {"content-type": {"a": 1}, "x-reason": 5}}
    ),
    "an unknown content type": _with(content_type="x" * 200, content_encoding="gzip"),
    "no content type": _with(content_type=None),
    "the content type of a pickle": _with(content_type="application/python-pickle"),
    "not persistent": _with(delivery_mode=1, priority=255, app_id="x", type="y"),
    "a reply_to without a queue": _with(reply_to="no-such-queue"),
    "a reply_to of 255 characters": _with(reply_to="x" * 255, correlation_id="y" * 255),
    "poison with a reply_to without a queue": Hostile(
        "dead", body=b"{", properties={"reply_to": "no"}
    ),
}


def hostile_messages(file: Path) -> dict[str, Hostile]:
    """The messages by id. None of them may create the file."""
    executable = {
        "pickle": _raw(pickled(file)),
        "pickle in JSON": _product(name={"py/reduce": ["os.system", f"touch {file}"]}),
    }
    return executable | _BODIES | _FIELDS | _PROPERTIES
