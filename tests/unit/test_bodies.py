"""Which fields a body may have, which it needs, which may be null, and how large numbers may be."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from app.schemas.addresses import AddressCreate, AddressUpdate, DeliveryAddress
from app.schemas.orders import OrderCreate, OrderDetail, OrderItemRead, OrderStatus
from app.schemas.products import ProductCreate, ProductUpdate, ProductUpdateMessage
from app.schemas.users import UserCreate, UserUpdate
from harness.bodies import ADDRESS, LINE, ORDER, PRODUCT, USER, wrong_fields

ID_MAX = 2**53 - 1


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        (UserCreate, USER),
        (UserUpdate, {}),
        (AddressCreate, ADDRESS),
        (AddressUpdate, {}),
        (ProductCreate, PRODUCT),
        (ProductUpdate, {}),
        (ProductUpdateMessage, {"product_id": 1}),
        (OrderCreate, ORDER),
    ],
)
def test_an_unknown_field_is_an_error(schema: type[BaseModel], body: dict[str, Any]) -> None:
    assert wrong_fields(schema, body) == []
    for name in ("id", "created_at", "is_admin", "Username", "__proto__"):
        assert wrong_fields(schema, body | {name: 1}) == [name]
    assert wrong_fields(OrderCreate, ORDER | {"items": [LINE | {"unit_price": "1"}]}) == [
        "items.0.unit_price"
    ]


@pytest.mark.parametrize(
    ("schema", "required"),
    [
        (UserCreate, ["username", "email"]),
        (AddressCreate, ["street", "city", "country"]),
        (ProductCreate, ["name", "price", "stock_quantity"]),
        (ProductUpdateMessage, ["product_id"]),
        (OrderCreate, ["user_id", "delivery_address_id", "items"]),
    ],
)
def test_a_missing_field_is_named(schema: type[BaseModel], required: list[str]) -> None:
    assert wrong_fields(schema, {}) == required


def test_null_is_taken_for_optional_columns_only() -> None:
    assert wrong_fields(UserUpdate, {"description": None}) == []
    assert wrong_fields(ProductUpdate, {"sku": None, "description": None}) == []
    assert wrong_fields(AddressUpdate, {"state": None, "zip_code": None}) == []
    for schema, name in (
        (UserUpdate, "username"),
        (UserUpdate, "email"),
        (ProductUpdate, "price"),
        (ProductUpdate, "stock_quantity"),
        (AddressUpdate, "street"),
    ):
        assert wrong_fields(schema, {name: None}) == [name]


@pytest.mark.parametrize("wrong", [0, -1, ID_MAX + 1, 10**30, 1.5, "1", True, None, [1]])
def test_what_is_not_an_id(wrong: Any) -> None:
    assert wrong_fields(ProductUpdateMessage, {"product_id": wrong}) == ["product_id"]
    assert wrong_fields(OrderCreate, ORDER | {"user_id": wrong}) == ["user_id"]


def test_bounds_of_numbers_and_lines() -> None:
    def order_of(*lines: Any) -> dict[str, Any]:
        return ORDER | {"items": list(lines)}

    assert wrong_fields(ProductUpdateMessage, {"product_id": ID_MAX}) == []
    assert wrong_fields(ProductCreate, PRODUCT | {"stock_quantity": 2**53 - 1}) == []
    for stock in (-1, 2**53, 1.5, "5", True):
        assert wrong_fields(ProductCreate, PRODUCT | {"stock_quantity": stock}) == [
            "stock_quantity"
        ]
    assert wrong_fields(OrderCreate, order_of(*[LINE] * 1000)) == []
    assert wrong_fields(OrderCreate, order_of(*[LINE] * 1001)) == ["items"]
    assert wrong_fields(OrderCreate, order_of()) == ["items"]
    assert wrong_fields(OrderCreate, order_of(LINE | {"quantity": 10**6})) == []
    for quantity in (0, -1, 10**6 + 1, 1.5, "1", True):
        found = wrong_fields(OrderCreate, order_of(LINE, LINE | {"quantity": quantity}))
        assert found == ["items.1.quantity"]


def test_only_the_fields_that_were_sent_are_changed() -> None:
    message = ProductUpdateMessage.model_validate({"product_id": 7, "sku": None, "price": "2"})
    fields = message.changes().model_dump(exclude_unset=True)
    assert fields == {"sku": None, "price": "2.00"}


def test_the_total_of_an_order() -> None:
    at = datetime(2025, 12, 16, tzinfo=UTC)
    order = OrderDetail(
        id=1,
        user_id=1,
        delivery_address_id=1,
        delivery_address=DeliveryAddress(
            street="s", city="c", state=None, zip_code=None, country="c"
        ),
        status=OrderStatus.PENDING,
        external_id=None,
        ordered_at=at,
        created_at=at,
        updated_at=None,
        items=[
            OrderItemRead(product_id=1, quantity=3, unit_price=Decimal("19.90")),
            OrderItemRead(product_id=2, quantity=1, unit_price=Decimal("0.05")),
        ],
    )
    assert json.loads(order.model_dump_json())["total_price"] == "59.75"
