"""What the HTTP door refuses, and how it says so."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.test_openapi import Service

INT4, INT8 = 2**31, 2**63
USER = {"username": "jane_doe", "email": "jane@example.com"}
PRODUCT = {"name": "Tea", "price": "9.90", "stock_quantity": 5}
JSON = {"Content-Type": "application/json"}
MARK = "zq9<script>"
PAGES = ["/users", "/products", "/orders", "/users/1/addresses"]
ROWS = ["/users/{}", "/users/{}/addresses", "/addresses/{}", "/products/{}", "/orders/{}"]


@pytest.fixture(scope="module", name="service")
def _service(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tree, tmp_path_factory.mktemp("service") / "data")
    try:
        service.wait()
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module", name="http")
def _http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=20) as client:
        yield client


def refused(response: httpx.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status and body["title"] and body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    for inside in ("Traceback", "SELECT", "INSERT", "asyncpg", "sqlalchemy", "/app/", ".py", MARK):
        assert inside not in response.text
    return body


def words(response: httpx.Response) -> dict[str, str]:
    return {e["field"]: e["message"] for e in refused(response, 422)["errors"]}


@pytest.mark.parametrize(
    "path",
    [
        "/", "/nope", "/users/1/nope", f"/{MARK}", "/%00", "/users/%00", "/users/1%00",
        "/users/abc", "/users/1.0", "/users/1e0", "/users/+1", "/users/01", "/users/1_0",
        "/users/%201", "/users/%EF%BC%91", "/users/%ff", "/users/true", "/users/null",
        "/orders/abc", "/products/x", "/addresses/x", "/messages", "/schema/nope", "/docs/nope",
        "/docs/assets/nope.js", "/docs/assets/..%2f..%2f..%2fsettings.py", "/..%2f..%2fetc/passwd",
    ],
)  # fmt: skip
def test_unknown_addresses(http: httpx.Client, path: str) -> None:
    refused(http.get(path), 404)


@pytest.mark.parametrize("id", [0, -1, INT4, INT8, 10**23 - 1])
@pytest.mark.parametrize("path", ROWS)
def test_ids_that_no_row_can_have(http: httpx.Client, path: str, id: int) -> None:
    assert list(words(http.get(path.format(id))).values()) == [
        "must be a whole number from 1 to 2147483647"
    ]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "query",
    [
        "count=0", "count=-1", "count=101", "count=1000000000", "count=", "count=x", "count=true",
        "count=1.5", "count=null", "count=%00", "count=5&count=6", "count=1_0", "count=%EF%BC%95",
        "page=0", "page=-1", f"page={INT4}", f"page={9 * 10**18}", f"page={10**23}",
        "page=1&page=1", f"count={MARK}",
    ],
)  # fmt: skip
def test_pages_that_cannot_be(http: httpx.Client, path: str, query: str) -> None:
    assert list(words(http.get(f"{path}?{query}"))) == [query.partition("=")[0]]


def test_the_last_page_is_empty(http: httpx.Client) -> None:
    answer = http.get("/users?count=100&page=21474836").json()
    assert answer["users"] == []


@pytest.mark.parametrize(
    "query",
    ["user_id=0", "user_id=x", "user_id=null", f"user_id={INT4}", "status=x", "status=",
     "status=null", "status=PENDING", f"status={MARK}"],
)  # fmt: skip
def test_filters_that_nothing_can_match(http: httpx.Client, query: str) -> None:
    assert list(words(http.get(f"/orders?{query}"))) == [query.partition("=")[0]]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "day",
    ["", "x", "null", "2025-1-2", "20251216", "2025-W51-2", "2025-350", "2025-02-30", "0000-01-01",
     "10000-01-01", "2025-12-16T00:00:00", "2025-12-16Z", "1765843200", "%002025-12-16",
     "%EF%BC%92025-12-16", " 2025-12-16", "2025-12-16&report_date=2025-12-17", MARK],
)  # fmt: skip
def test_days_are_written_in_one_way(http: httpx.Client, method: str, day: str) -> None:
    found = words(http.request(method, f"/report?report_date={day}"))
    assert found == {"report_date": "must be a day such as 2025-12-16; without it, today"}


def test_the_first_and_the_last_of_days(http: httpx.Client) -> None:
    for day in ("0001-01-01", "9999-12-31"):
        assert http.get(f"/report?report_date={day}").json() == []
    first = http.post("/report?report_date=0001-01-01")
    assert (first.status_code, first.json()["created"]) == (200, 0)
    last = refused(http.post("/report?report_date=9999-12-31"), 409)
    assert last["reason"] == "not-yet"
    assert last["detail"].startswith("9999-12-31 has not begun yet")


@pytest.mark.parametrize("path", [*PAGES, "/users/1", "/report", "/messages/x", "/health/live"])
def test_methods_that_an_address_does_not_take(http: httpx.Client, path: str) -> None:
    known = {m.strip() for m in http.options(path).headers["allow"].split(",")}
    assert {"GET", "HEAD", "OPTIONS"} <= known
    for method in {"POST", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"} - known:
        response = http.request(method, path)
        refused(response, 405)
        assert {m.strip() for m in response.headers["allow"].split(",")} == known


def test_head_is_get_without_the_body(http: httpx.Client) -> None:
    for path, status in (("/users", 200), ("/users/0", 422), ("/nope", 404), ("/docs", 200)):
        head, get = http.head(path), http.get(path)
        assert head.status_code == get.status_code == status
        assert head.content == b"" and head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    "body",
    [
        b"{", b"{}}", b"nope", b"{'a': 1}", b"\xff", b'{"username": "\xff"}', b'{"\xff": 1}',
        b'{"username": "\\ud800"}', b'{"\\udfff": 1}', b"[" * 100_000, b'{"a":' * 40_000,
        b"[" * 100_000 + b"]" * 100_000, b'{"username": NaN}', b"Infinity", b"-Infinity",
        b'{"a": 1e99999999999999999999}', b"1" * 5000, b"\xef\xbb\xbf{}", "{}".encode("utf-16"),
    ],
    ids=lambda body: body[:12].hex(),
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/users"), ("PUT", "/users/1"), ("POST", "/orders")]
)
def test_bodies_that_are_not_json(http: httpx.Client, method: str, path: str, body: bytes) -> None:
    answer = refused(http.request(method, path, content=body, headers=JSON), 400)
    assert answer["detail"] == "the body is not valid JSON"


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"1", b"true", b"[{}]"])
def test_bodies_that_are_no_object(http: httpx.Client, body: bytes) -> None:
    assert words(http.post("/users", content=body, headers=JSON)) == {"": "must be a JSON object"}


def test_no_body_at_all(http: httpx.Client) -> None:
    assert words(http.post("/users")) == {"": "must be a JSON object"}


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
     "application/xml", "application/jsonx", "application/vnd.api+json", "", MARK],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/users", "/report"])
def test_bodies_of_other_media(http: httpx.Client, path: str, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    refused(http.post(path, content=b'{"username": "x"}', headers=headers), 415)


def test_json_with_parameters_is_json(http: httpx.Client) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert "username" in words(http.post("/users", content=b"{}", headers=headers))


def test_bodies_that_are_too_large(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield from [b'"' + b"a" * 1024] * 300

    refused(http.post("/users", content=b'"' + b"a" * (256 * 1024), headers=JSON), 413)
    refused(http.post("/users", content=chunks(), headers=JSON), 413)
    fits = b'{"a": "%s"}' % (b"a" * (256 * 1024 - 9))
    assert len(fits) == 256 * 1024
    assert "a" in words(http.post("/users", content=fits, headers=JSON))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("price", '"NaN"'), ("price", '"Infinity"'), ("price", "-1"), ("price", "1e-400"),
        ("price", "1e400"), ("price", "1.005"), ("price", '"1.005"'), ("price", "true"),
        ("price", "null"), ("price", '"1e2"'), ("price", '"\\u0661"'), ("price", "10000000000"),
        ("stock_quantity", "true"), ("stock_quantity", '"5"'), ("stock_quantity", "-5"),
        ("stock_quantity", "1.5"), ("stock_quantity", f"{INT4}"), ("stock_quantity", f"{INT8}"),
        ("stock_quantity", f"{10**23}"), ("stock_quantity", "null"), ("stock_quantity", "1e300"),
        ("name", "1"), ("name", "true"), ("name", '""'), ("name", '" x"'), ("name", '"x\\u0000"'),
        ("name", '"a\\r\\nb"'), ("name", '"\\u001b[31m"'), ("name", f'"{"x" * 201}"'),
        ("sku", "1"), ("sku", '""'), ("description", '"\\u0000"'), ("description", "[]"),
        ("id", "1"), ("created_at", '"2025-12-16T12:50:00"'), ("is_admin", "true"),
    ],
)  # fmt: skip
def test_products_that_cannot_be(http: httpx.Client, field: str, value: str) -> None:
    others = ", ".join(
        f'"{name}": "{given}"' if isinstance(given, str) else f'"{name}": {given}'
        for name, given in PRODUCT.items()
        if name != field
    )
    body = f'{{{others}, "{field}": {value}}}'
    found = words(http.post("/products", content=body, headers=JSON))
    assert list(found) == [field]
    for puzzling in ("Value error", "pattern", "^", "\\u"):
        assert puzzling not in found[field]
    assert list(words(http.put("/products/1", content=body, headers=JSON))) == [field]


@pytest.mark.parametrize("number", ["5", "5.0", "0.5e1"])
def test_json_has_one_kind_of_number(http: httpx.Client, number: str) -> None:
    body = f'{{"name": "Tea", "price": {number}, "stock_quantity": {number}}}'
    made = http.post("/products", content=body, headers=JSON).json()
    assert (made["price"], made["stock_quantity"]) == ("5.00", 5)


@pytest.mark.parametrize(
    "email",
    ["x", "@example.com", "a@", "a@b", "a@b.", "a b@example.com", "a@exa mple.com", "a@example.com.",
     "a@example.com ", "a@exämple.com", "a@example.com\r\nBcc: b@example.com", "a@-example.com",
     '"a"@example.com', f"{'a' * 65}@example.com", f"a@{'b.' * 130}com", f"{MARK}@example.com"],
)  # fmt: skip
def test_emails_that_cannot_be(http: httpx.Client, email: str) -> None:
    message = words(http.post("/users", json={**USER, "email": email}))["email"]
    assert message.startswith(("must be an e-mail address", "String should have at most 254"))


def test_what_was_sent_does_not_come_back(http: httpx.Client) -> None:
    refused(http.get(f"/{MARK}?{MARK}={MARK}", headers={"X-Request-Id": MARK}), 404)
    refused(http.post("/users", json={**USER, MARK: MARK}), 422)
    refused(http.post("/users", json={"username": f"\0{MARK}", "email": MARK}), 422)
    refused(http.put("/orders/1", json={"status": MARK}), 422)
    refused(http.post("/users", content=MARK, headers=JSON), 400)


@pytest.mark.parametrize(
    "moment",
    ["2025-12-16", "2025-12-16 12:50:00", "2025-W51-2T12:50:00", "20251216T125000", 1765843200,
     "2025-12-16T12:50", "2025-12-16T24:00:00", "2025-12-16T12:50:00+99:99", "2025-02-30T00:00:00",
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0000-01-01T00:00:00Z", True],
)  # fmt: skip
def test_times_that_cannot_be(http: httpx.Client, moment: Any) -> None:
    order = {"user_id": 1, "delivery_address_id": 1, "items": [{"product_id": 1, "quantity": 1}]}
    found = words(http.post("/orders", json={**order, "ordered_at": moment}))
    assert found["ordered_at"].startswith("must be a time such as 2025-12-16T12:50:00")


def test_every_wrong_field_is_named(http: httpx.Client) -> None:
    lines = [{"product_id": 0, "quantity": 1}, {"product_id": 1}, 7]
    body = {"user_id": True, "delivery_address_id": 1, "items": lines}
    assert set(words(http.post("/orders", json=body))) == {
        "user_id", "items.0.product_id", "items.1.quantity", "items.2"
    }  # fmt: skip


@pytest.mark.parametrize(
    "id", ["x", "a b", "a%2Fb", "a/b", "%3F%23%25", "%F0%9F%98%80", "x" * 2000, "..", "%0A", "%ff"]
)
def test_messages_of_any_name_can_be_asked_for(http: httpx.Client, id: str) -> None:
    refused(http.get(f"/messages/{id}"), 404)


def test_a_message_has_no_nul_in_its_name(http: httpx.Client) -> None:
    assert words(http.get("/messages/a%00b")) == {
        "message_id": "must be text without NUL characters"
    }


def test_request_ids(http: httpx.Client) -> None:
    assert refused(http.get("/x", headers={"X-Request-Id": "a-1"}), 404)["request_id"] == "a-1"
    for bad in (b"a b", b"x" * 129, b"\xff", b""):
        given = refused(http.get("/x", headers={b"X-Request-Id": bad}), 404)["request_id"]
        assert len(given) == 32


def test_what_is_taken_is_400(http: httpx.Client) -> None:
    first = http.post("/users", json={"username": "taken", "email": "taken@example.com"}).json()
    other = http.post("/users", json={"username": "other", "email": "other@example.com"}).json()
    for body, field in (
        ({"username": "TAKEN", "email": "free@example.com"}, "username"),
        ({"username": "free", "email": "Taken@Example.com"}, "email"),
    ):
        for answer in (
            http.post("/users", json=body),
            http.put(f"/users/{other['id']}", json={field: body[field]}),
        ):
            problem = refused(answer, 400)
            assert (problem["reason"], problem["facts"]) == ("duplicate", {"field": field})
    assert http.put(f"/users/{first['id']}", json={"username": "Taken"}).status_code == 200


@pytest.mark.parametrize("same", ["username", "email"])
async def test_one_of_fifty_at_once_gets_the_name(service: Service, same: str) -> None:
    limits = httpx.Limits(max_connections=50)
    async with httpx.AsyncClient(base_url=service.url, limits=limits, timeout=30) as client:
        bodies: list[dict[str, str]] = [
            {"username": f"{same}-{n}", "email": f"{same}-{n}@example.com"} for n in range(50)
        ]
        for body in bodies:
            body[same] = bodies[0][same]
        answers = await asyncio.gather(*(client.post("/users", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201] + [400] * 49
