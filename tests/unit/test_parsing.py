"""Which messages are poison before any server is involved."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from app.consumers.handlers import HANDLERS
from app.consumers.parsing import MOST_BYTES, parse
from app.errors import Poison
from app.messaging.broker import Delivery
from app.queues import CONSUMED, Queue
from app.schemas.products import ProductCreate, ProductUpdateMessage

PRODUCT = {"name": "Green tea", "price": "19.90", "stock_quantity": 5}


def delivery(body: Any, queue: Queue = Queue.PRODUCT, **fields: Any) -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    known = {"message_id": "id", "redelivered": False, "reply_to": "", "correlation_id": ""}
    return Delivery(queue, raw, **{**known, **fields})


def parsed(one: Delivery) -> BaseModel:
    return parse(one, HANDLERS[one.queue].schema)


def poison_of(*arguments: Any, **fields: Any) -> Poison:
    with pytest.raises(Poison) as caught:
        parsed(delivery(*arguments, **fields))
    return caught.value


def test_every_queue_has_a_handler() -> None:
    assert set(HANDLERS) == set(CONSUMED), "add a row to HANDLERS in app/consumers/handlers.py"


def test_a_body_is_parsed_with_the_schema_of_its_queue() -> None:
    assert isinstance(parsed(delivery(PRODUCT)), ProductCreate)
    update = parsed(delivery({"product_id": 1, "price": 2}, Queue.PRODUCT_UPDATE))
    assert isinstance(update, ProductUpdateMessage)
    assert (update.product_id, str(update.price)) == (1, "2.00")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" ", b"\xff\xfe\x00", b'{"name": "a', b"{'name': 1}", b"{} {}", b"\x00{}"),
        *(b"[" * 100_000, b'{"name": "\\ud800"}', b'{"price": NaN}', b'{"price": -Infinity}'),
        b'{"name": "%s"}' % b"\xc3\x28",
    ],
)
def test_what_is_not_json(body: bytes) -> None:
    poison = poison_of(body)
    assert (poison.reason, poison.field) == ("decode", "")
    assert poison.detail


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], ""),
        ("text", ""),
        (None, ""),
        (1, ""),
        ({}, "name"),
        (PRODUCT | {"stock_quantity": "5"}, "stock_quantity"),
        (PRODUCT | {"colour": "red"}, "colour"),
    ],
)
def test_json_that_does_not_fit_the_schema(body: Any, field: str) -> None:
    poison = poison_of(body)
    assert (poison.reason, poison.field) == ("validation", field)
    assert poison.detail.startswith(f"{field}: ") or not field


def test_the_path_of_a_wrong_field_is_named() -> None:
    lines = [{"product_id": 1, "quantity": 1}, {"product_id": 1, "quantity": 0}]
    body = {"user_id": 1, "delivery_address_id": 1, "items": lines}
    assert poison_of(body, Queue.ORDER).field == "items.1.quantity"


def test_a_detail_does_not_repeat_the_input() -> None:
    assert "s3cr3t" not in poison_of(PRODUCT | {"price": "s3cr3t"}).detail
    assert "s3cr3t" not in poison_of(b'{"name": s3cr3t}').detail


def test_the_largest_body() -> None:
    padded = json.dumps(PRODUCT).encode().ljust(MOST_BYTES)
    assert isinstance(parsed(delivery(padded)), ProductCreate)
    assert poison_of(padded + b" ").reason == "too-large"


@pytest.mark.parametrize("message_id", ["", "x" * 256, "a\nb", "a\0b", "\x1b[31m"])
def test_what_is_not_a_message_id(message_id: str) -> None:
    assert poison_of(PRODUCT, message_id=message_id).reason == "message-id"


@pytest.mark.parametrize("message_id", ["x", "x" * 255, "order:10248/1", "заказ 1"])
def test_what_is_a_message_id(message_id: str) -> None:
    assert isinstance(parsed(delivery(PRODUCT, message_id=message_id)), ProductCreate)


def test_a_redelivery_without_an_id_is_ambiguous() -> None:
    assert isinstance(parsed(delivery(PRODUCT, message_id=None)), ProductCreate)
    poison = poison_of(PRODUCT, message_id=None, redelivered=True)
    assert poison.reason == "ambiguous-redelivery"
    assert isinstance(parsed(delivery(PRODUCT, redelivered=True)), ProductCreate)
