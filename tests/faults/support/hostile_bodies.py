"""Request bodies that an honest client sends only by mistake."""

import json
from typing import Any

from app.rest.asgi.limiter import MOST_BODY_BYTES
from tests.faults.support.requests import Hostile, request

_LINE = {"product_id": 1, "quantity": 1}
_USER = b'{"username": "m", "email": "m@example.com"}'


def _post(target: str, body: Any, *statuses: int, method: str = "POST") -> Hostile:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Hostile(request(method, target, content), set(statuses))


def _user(*statuses: int, **fields: Any) -> Hostile:
    body = {"username": "mallory", "email": "mallory@example.com"} | fields
    return _post("/users", body, *statuses)


def _product(price: bytes, *statuses: int) -> Hostile:
    return _post("/products", b'{"name": "x", "stock_quantity": 1, "price": %s}' % price, *statuses)


def _stock(stock: bytes) -> Hostile:
    return _post("/products", b'{"name": "x", "price": "1", "stock_quantity": %s}' % stock, 422)


def _order(items: Any, **fields: Any) -> Hostile:
    return _post("/orders", {"user_id": 1, "delivery_address_id": 1, "items": items} | fields, 422)


HOSTILE_BODIES = {
    "NUL in a name": _user(422, username="a\0b"),
    "NUL, escaped": _post("/users", b'{"username": "a\\u0000b", "email": "m@example.com"}', 422),
    "a lone surrogate": _post(
        "/users", b'{"username": "\\ud800", "email": "m@example.com"}', 400, 422
    ),
    "invalid UTF-8": _post("/users", b'{"username": "\xff\xfe", "email": "m@example.com"}', 400),
    "UTF-16": _post("/users", _USER.decode().encode("utf-16"), 400),
    "a byte order mark": _post("/users", b"\xef\xbb\xbf" + _USER, 400),
    "10,000 characters": _user(422, username="x" * 10_000),
    "a line break in a name": _user(422, username="two\r\nlines"),
    "an escape sequence in a name": _user(422, username="\x1b[31mred"),
    "a blank at the end": _user(422, username="mallory "),
    "an empty name": _user(422, username=""),
    "a number as the name": _user(422, username=7),
    "a list as the name": _user(422, username=["a"]),
    "e-mail of 320 characters": _user(422, email="x" * 308 + "@example.com"),
    "e-mail with a line break": _user(422, email="a@example.com\r\nBcc: b@example.com"),
    "e-mail without a dot": _user(422, email="a@b"),
    "e-mail with a trailing dot": _user(422, email="a@example.com."),
    "e-mail with two at signs": _user(422, email="a@b@example.com"),
    "e-mail that makes a naive regex backtrack": _user(422, email="a@" + "a" * 60 + "." * 180),
    "mass assignment of id": _user(422, id=1),
    "mass assignment of is_admin": _user(422, is_admin=True),
    "mass assignment of created_at": _user(422, created_at="2000-01-01T00:00:00"),
    "__proto__": _user(422, __proto__={"admin": True}),
    "an unknown field of 100,000 characters": _user(422, **{"x" * 100_000: 1}),
    "an unknown field with NUL": _user(422, **{"a\0b": 1}),
    "no fields": _post("/users", b"{}", 422),
    "null": _post("/users", b"null", 422),
    "a list": _post("/users", b"[]", 422),
    "a string": _post("/users", b'"x"', 422),
    "a number": _post("/users", b"1e999", 400, 422),
    "nothing": _post("/users", b"", 400, 422),
    "blanks": _post("/users", b"   ", 400),
    "truncated": _post("/users", b'{"username": "a', 400),
    "two documents": _post("/users", _USER + _USER, 400),
    "a comment": _post("/users", b"/* */" + _USER, 400),
    "100,000 brackets": _post("/users", b"[" * 100_000, 400),
    "100,000 braces": _post("/users", b'{"a":' * 50_000, 400),
    "pickle": _post("/users", b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix", 400),
    "too large": _post("/users", b" " * (MOST_BODY_BYTES + 1), 413),
    "price NaN": _product(b"NaN", 400),
    "price Infinity": _product(b"Infinity", 400),
    "price 'NaN'": _product(b'"NaN"', 422),
    "price 'Infinity'": _product(b'"Infinity"', 422),
    "price -1": _product(b"-1", 422),
    "price -0.0": _product(b"-0.0", 201, 422),
    "price 1e-400": _product(b"1e-400", 422),
    "price 1e400": _product(b"1e400", 400, 422),
    "price 1e99999999": _product(b"1e99999999", 400, 422),
    "price of 5,000 digits": _product(b"1" * 5000, 400, 422),
    "price with three places": _product(b"1.005", 422),
    "price in Arabic digits": _product('"١٢"'.encode(), 422),
    "price true": _product(b"true", 422),
    "an object as the price": _product(b'{"$gt": 0}', 422),
    "stock -1": _stock(b"-1"),
    "stock 2^53": _stock(b"9007199254740992"),
    "stock true": _stock(b"true"),
    "stock '5'": _stock(b'"5"'),
    "stock 1.5": _stock(b"1.5"),
    "stock 1e300": _stock(b"1e300"),
    "no lines": _order([]),
    "1,001 lines": _order([_LINE] * 1001),
    "quantity 0": _order([_LINE | {"quantity": 0}]),
    "quantity 2^31": _order([_LINE | {"quantity": 2**31}]),
    "product 2^63": _order([_LINE | {"product_id": 2**63}]),
    "a price set by the client": _order([_LINE | {"unit_price": "0.01"}]),
    "ordered in the year 0": _order([_LINE], ordered_at="0000-01-01T00:00:00"),
    "ordered before the year 1 in UTC": _order([_LINE], ordered_at="0001-01-01T00:00:00+14:00"),
    "a number as the time of the order": _order([_LINE], ordered_at=1e20),
    "an unknown status": _post("/orders/1", {"status": "lost"}, 422, method="PUT"),
    "PUT with null as the name": _post("/users/1", {"username": None}, 422, method="PUT"),
}
