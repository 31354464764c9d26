"""What the bodies of requests and messages may hold: both doors have the same rules."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from app.schemas.addresses import AddressCreate
from app.schemas.orders import OrderCreate
from app.schemas.products import ProductCreate
from app.schemas.users import UserCreate, UserRead
from harness.bodies import ADDRESS, ORDER, PRODUCT, USER, wrong_fields

BODIES: dict[type[BaseModel], dict[str, Any]] = {
    UserCreate: USER,
    ProductCreate: PRODUCT,
    AddressCreate: ADDRESS,
    OrderCreate: ORDER,
}


@pytest.mark.parametrize(
    ("given", "amount"),
    [
        ("19.90", "19.90"),
        ("19.9", "19.90"),
        ("19", "19.00"),
        ("0", "0.00"),
        ("0.01", "0.01"),
        ("0019.90", "19.90"),
        ("9999999999.99", "9999999999.99"),
        (19.9, "19.90"),
        (0.1 + 0.2, "0.30"),
        (19, "19.00"),
        (0, "0.00"),
        (1e3, "1000.00"),
        (9999999999.99, "9999999999.99"),
    ],
)
def test_an_amount_of_money(given: Any, amount: str) -> None:
    product = ProductCreate.model_validate_json(json.dumps(PRODUCT | {"price": given}))
    assert product.price == Decimal(amount)
    assert json.loads(product.model_dump_json())["price"] == amount


@pytest.mark.parametrize(
    "given",
    [
        *("", "ten", "19,90", "19.900", "-1", "+1", " 1", "1 ", "1e3", "NaN", "Infinity", "１９"),
        *("10000000000", ".5", "5.", "0x10", "1_000"),
        *(-0.01, -1, 19.999, 0.001, 1e-400 + 1e-9, 10_000_000_000, 1e400, True, False, None),
        *([], {}, ["1"], float("nan"), float("-inf")),
    ],
)
def test_what_is_not_an_amount_of_money(given: Any) -> None:
    assert wrong_fields(ProductCreate, PRODUCT | {"price": given}) == ["price"]


@pytest.mark.parametrize(
    "name",
    ["x", "Żółw", "日本茶", "a b", "O'Neil; DROP TABLE", "%_\\", "😀" * 200]
    + ["می\u200cخواهم", "क\u200dष", "❤️", "🏳️\u200d🌈", "葛\U000e0100城", "1️⃣ Top", "a\u3000b"],
)
def test_a_single_line(name: str) -> None:
    assert ProductCreate.model_validate(PRODUCT | {"name": name}).name == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            " ",
            " x",
            "x ",
            "\u00a0x",
            "x\n",
            "a\nb",
            "a\rb",
            "a\tb",
            "a\0b",
            "a\x1b[31m",
            "a\x7fb",
        ),
        *("\u200b", "a\u200bb", "\u3000", "\u2800", "\u3164", "x\u3000", "\ufeffx", "a\u2028b"),
        *("a\u2029b", "a\u202eb", "\u2066x", "a\u200f", "a\u061cb", "a\u00adb", "a\U000e0041"),
        *("ad\u200dmin", "ad\u200cmin", "x\ufe0f", "\u200dx", "آ\u200c"),
        *("a\u0085b", "x" * 201, 1, True, None, ["x"], {"x": 1}),
    ],
)
def test_what_is_not_a_single_line(name: Any) -> None:
    assert wrong_fields(ProductCreate, PRODUCT | {"name": name}) == ["name"]


@pytest.mark.parametrize("schema", [UserCreate, ProductCreate, AddressCreate, OrderCreate])
def test_every_text_is_composed_before_its_length_is_counted(schema: type[BaseModel]) -> None:
    """In NFC, by which equal texts are equal; a field whose type forgets NFC fails here."""
    for name, rules in schema.model_json_schema()["properties"].items():
        rules = rules.get("anyOf", [rules])[0]
        if "maxLength" in rules and name != "email":  # an e-mail address is ASCII
            longest = rules["maxLength"]
            given = BODIES[schema] | {name: "e\u0301" * longest}
            body = schema.model_validate_json(json.dumps(given))
            assert getattr(body, name) == "é" * longest


def test_a_lone_surrogate_is_invalid() -> None:
    for schema, body in ((UserCreate, USER), (ProductCreate, PRODUCT)):
        with pytest.raises(ValidationError, match="hex escape|surrogate"):
            schema.model_validate_json(json.dumps(body | {"description": "\ud800"}))


def test_a_description_may_have_several_lines_but_no_nul() -> None:
    text = "one\ntwo\n\tthree "
    assert UserCreate.model_validate(USER | {"description": text}).description == text
    for wrong in ("a\0b", "x" * 2001, 1, False, "a\u202eb", "a\u200bb", "\ufeffa", "a\u2028b"):
        assert wrong_fields(UserCreate, USER | {"description": wrong}) == ["description"]


@pytest.mark.parametrize(
    "email",
    ["a@b.de", "Jane.Doe+tag@Example.COM", "o'neil@example.com", "a@xn--bcher-kva.example"]
    + ["a@1.example", f"{'a' * 64}@example.com"],
)
def test_an_email(email: str) -> None:
    assert UserCreate.model_validate(USER | {"email": email}).email == email


@pytest.mark.parametrize(
    "email",
    [
        *("", "jane", "jane@", "@example.com", "jane@example", "jane@example.", "jane@.com"),
        *("jane@exa mple.com", " jane@example.com", "jane@example.com ", "jane@example.com\n"),
        *('"a b"@example.com', "jane@-example.com", "jane@example-.com", "jane@bücher.example"),
        *("jane@example.com\r\nBcc: x@example.com", "jane@[127.0.0.1]", "a@b@example.com"),
        *(f"{'a' * 65}@example.com", f"a@{'b' * 64}.com", f"{'a' * 60}@{'b.' * 97}com", 1, None),
    ],
)
def test_what_is_not_an_email(email: Any) -> None:
    assert wrong_fields(UserCreate, USER | {"email": email}) == ["email"]


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2025-12-16T12:50:00", datetime(2025, 12, 16, 12, 50, tzinfo=UTC)),
        ("2025-12-16T12:50:00Z", datetime(2025, 12, 16, 12, 50, tzinfo=UTC)),
        ("2025-12-16t12:50:00z", datetime(2025, 12, 16, 12, 50, tzinfo=UTC)),
        ("2025-12-16T00:30:00+01:00", datetime(2025, 12, 15, 23, 30, tzinfo=UTC)),
        ("2025-12-16T12:50:00.089033-05:30", datetime(2025, 12, 16, 18, 20, 0, 89033, UTC)),
    ],
)
def test_a_time_without_an_offset_is_utc(given: str, moment: datetime) -> None:
    order = OrderCreate.model_validate_json(json.dumps(ORDER | {"ordered_at": given}))
    assert order.ordered_at == moment
    assert order.ordered_at.utcoffset() == UTC.utcoffset(None)


@pytest.mark.parametrize(
    "given",
    ["", "2025-12-16", "12:50", "2025-13-01T00:00:00", "2025-02-29T00:00:00", "yesterday"]
    + ["2025-12-16T25:00:00", "2025-12-16 12:50:00", 1765889400, True, "0000-01-01T00:00:00"]
    + ["1000-01-01T00:00:00+01:00", "8999-12-31T23:30:00-01:00"],
)
def test_what_is_not_a_time(given: Any) -> None:
    assert wrong_fields(OrderCreate, ORDER | {"ordered_at": given}) == ["ordered_at"]


def test_a_time_is_written_as_utc_without_an_offset() -> None:
    user = UserRead(
        id=1,
        username="jane",
        email="jane@example.com",
        description=None,
        created_at=datetime.fromisoformat("2025-12-16T13:50:00.089033+01:00"),
        updated_at=None,
    )
    body = json.loads(user.model_dump_json())
    assert (body["created_at"], body["updated_at"]) == ("2025-12-16T12:50:00.089033", None)
