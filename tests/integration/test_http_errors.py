"""Which requests are rejected, and what the client is told."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from harness.service import Service

BEYOND, INT8 = 2**53, 2**63
USER = {"username": "jane_doe", "email": "jane@example.com"}
PRODUCT = {"name": "Tea", "price": "9.90", "stock_quantity": 5}
JSON = {"Content-Type": "application/json"}
MARK = "zq9<script>"
BAD = ["", "x", "true", "null", "NULL", "%00", "1_0", "%2B5", "%EF%BC%95", MARK]
PAGES = ["/users", "/products", "/orders", "/users/1/addresses"]
ROWS = ["/users/{}", "/users/{}/addresses", "/addresses/{}", "/products/{}", "/orders/{}"]
# Values as they are written in the body.
WRONG: dict[str, list[Any]] = {
    "price": ['"NaN"', '"Infinity"', "-1", "1e-400", "1e400", "1.005", '"1.005"', "true", "null",
              '"1e2"', '"\\u0661"', "10000000000"],
    "stock_quantity": ["true", '"5"', "-5", "1.5", BEYOND, INT8, 10**23, "null", "1e300"],
    "name": ["1", '""', '" x"', '"x\\u0000"', '"a\\r\\nb"', '"\\u001b[m"', f'"{"x" * 201}"'],
    "description": ["1", '"\\u0000"', "[]"],
    **dict.fromkeys(["id", "created_at", "is_admin"], ["1", "null"]),
}  # fmt: skip


@pytest.fixture(scope="module", name="http")
def _http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=20) as client:
        yield client


def problem(response: httpx.Response, status: int) -> Any:
    """The body of an error response, which is well-formed and reveals nothing of the inside."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status and body["title"] and body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    for inside in ("Traceback", "SELECT", "INSERT", "asyncpg", "sqlalchemy", "/app/", ".py", MARK):
        assert inside not in response.text
    return body


def wrong_fields(response: httpx.Response) -> dict[str, str]:
    return {e["field"]: e["message"] for e in problem(response, 422)["errors"]}


@pytest.mark.parametrize(
    "path",
    [
        "/nope", "/users/1/nope", f"/{MARK}", "/%00", "/users/%00", "/users/1%00",
        "/users/abc", "/users/1.0", "/users/1e0", "/users/+1", "/users/01", "/users/1_0",
        "/users/%201", "/users/%EF%BC%91", "/users/%ff", "/users/true", "/users/null",
        "/orders/abc", "/products/x", "/addresses/x", "/schema/nope", "/docs/nope",
        "/docs/assets/nope.js", "/docs/assets/..%2f..%2f..%2fsettings.py", "/..%2f..%2fetc/passwd",
    ],
)  # fmt: skip
def test_unknown_paths(http: httpx.Client, path: str) -> None:
    problem(http.get(path), 404)


@pytest.mark.parametrize("path", ["/users", "/users/1", "/orders", "/report", "/users/1/addresses"])
def test_an_unknown_parameter_is_named(http: httpx.Client, path: str) -> None:
    """Ignored, `?order_id=7` would return other orders."""
    response = http.get(path, params={"order_id": "7", MARK: "1"})
    assert wrong_fields(response) == {
        "order_id": "is not a parameter of this resource",
        "?": "is not a parameter of this resource",
    }
    assert MARK not in response.text


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/docs"])
def test_probes_and_documentation_take_any_parameter(http: httpx.Client, path: str) -> None:
    assert http.get(path, params={"t": "1"}).status_code == 200


def test_a_body_with_many_unknown_fields_gets_a_short_response(http: httpx.Client) -> None:
    lines = [{f"f{number}": 1 for number in range(30)} for _ in range(300)]
    for body in (
        {f"f{number}": 1 for number in range(20_000)},
        {"user_id": 1, "delivery_address_id": 1, "items": lines},
        {f"f{number}": 1 for number in range(100)},
    ):
        response = http.post("/orders", json=body)
        assert response.status_code == 422
        assert len(response.content) < 4000
        assert len(response.json().get("errors", [])) <= 20


@pytest.mark.parametrize("id", [0, -1, BEYOND, INT8, 10**23 - 1])
@pytest.mark.parametrize("path", ROWS)
def test_ids_that_no_row_can_have(http: httpx.Client, path: str, id: int) -> None:
    (message,) = wrong_fields(http.get(path.format(id))).values()
    assert message == "must be a whole number from 1 to 9007199254740991"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("count", value) for value in ("0", "-1", "101", "1000000000", "1.5", "5&count=6", *BAD)),
        *(("page", value) for value in ("0", "-1", BEYOND, 9 * 10**18, 10**23, "1&page=1", *BAD)),
        *(
            ("after", value)
            for value in ("", "a.b", "a=", "é", "A" * 1501, "A&after=A", "null", MARK)
        ),
        *(("user_id", value) for value in ("0", "-1", BEYOND, INT8, *BAD)),
        *(("status", value) for value in ("PENDING", "pending,shipped", "0", *BAD)),
    ],
)
def test_invalid_parameters(http: httpx.Client, name: str, value: object) -> None:
    for path in PAGES if name in ("count", "page", "after") else ["/orders"]:
        assert list(wrong_fields(http.get(f"{path}?{name}={value}"))) == [name]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "day",
    [*BAD, "2025-1-2", "20251216", "2025-W51-2", "2025-350", "2025-02-30", "0000-01-01",
     "10000-01-01", "2025-12-16T00:00:00", "2025-12-16Z", "1765843200", "%002025-12-16",
     "%EF%BC%92025-12-16", " 2025-12-16", "2025-12-16&report_date=2025-12-17"],
)  # fmt: skip
def test_a_day_has_one_notation(http: httpx.Client, method: str, day: str) -> None:
    found = wrong_fields(http.request(method, f"/report?report_date={day}"))
    assert found == {"report_date": "must be a day such as 2025-12-16; without it, today"}


def test_the_earliest_and_the_latest_day(http: httpx.Client) -> None:
    for day in ("0001-01-01", "9999-12-31"):
        assert http.get(f"/report?report_date={day}").json() == []
    first = http.post("/report?report_date=0001-01-01")
    assert (first.status_code, first.json()["created"]) == (200, 0)
    last = problem(http.post("/report?report_date=9999-12-31"), 409)
    assert (last["reason"], last["detail"][:24]) == ("not-yet", "9999-12-31 has not begun")


@pytest.mark.parametrize("path", [*PAGES, "/users/1", "/report", "/messages/x", "/health/live"])
def test_methods_that_a_resource_does_not_have(http: httpx.Client, path: str) -> None:
    known = {m.strip() for m in http.options(path).headers["allow"].split(",")}
    assert {"GET", "HEAD", "OPTIONS"} <= known
    for method in {"POST", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"} - known:
        problem(response := http.request(method, path), 405)
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
    error = problem(http.request(method, path, content=body, headers=JSON), 400)
    assert error["detail"] == "the body is not valid JSON"


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"1", b"true", b"[{}]"])
def test_bodies_that_are_not_an_object(http: httpx.Client, body: bytes) -> None:
    assert wrong_fields(http.post("/users", content=body, headers=JSON)) == {
        "": "must be a JSON object"
    }
    assert wrong_fields(http.post("/users")) == {"": "must be a JSON object"}


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
     "application/xml", "application/jsonx", "application/vnd.api+json", "", MARK],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/users", "/report"])
def test_bodies_of_other_media_types(http: httpx.Client, path: str, media_type: str) -> None:
    problem(http.post(path, content=b"{}", headers={"Content-Type": media_type}), 415)
    same = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert "username" in wrong_fields(http.post("/users", content=b"{}", headers=same))


def test_bodies_that_are_too_large(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield from [b'"' + b"a" * 1024] * 300

    problem(http.post("/users", content=b'"' + b"a" * (256 * 1024), headers=JSON), 413)
    problem(http.post("/users", content=chunks(), headers=JSON), 413)
    fits = b'{"a": "%s"}' % (b"a" * (256 * 1024 - len('{"a": ""}')))
    assert "a" in wrong_fields(http.post("/users", content=fits, headers=JSON))


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in WRONG.items() for value in values],
)
def test_fields_with_invalid_values(http: httpx.Client, field: str, value: str) -> None:
    body = json.dumps({**PRODUCT, field: 0}).replace(f'"{field}": 0', f'"{field}": {value}')
    found = wrong_fields(http.post("/products", content=body, headers=JSON))
    assert list(found) == [field]
    for puzzling in ("Value error", "pattern", "^", "\\u"):
        assert puzzling not in found[field]
    assert list(wrong_fields(http.put("/products/1", content=body, headers=JSON))) == [field]


def test_errors_do_not_echo_the_input(http: httpx.Client) -> None:
    problem(http.get(f"/{MARK}?{MARK}={MARK}", headers={"X-Request-Id": MARK}), 404)
    problem(http.post("/users", json={**USER, MARK: MARK}), 422)
    problem(http.post("/users", json={"username": f"\0{MARK}", "email": MARK}), 422)
    problem(http.put("/orders/1", json={"status": MARK}), 422)
    problem(http.post("/users", content=MARK, headers=JSON), 400)


def test_every_wrong_field_is_named(http: httpx.Client) -> None:
    lines = [{"product_id": 0, "quantity": 1}, {"product_id": 1}, 7]
    body = {"user_id": True, "delivery_address_id": 1, "items": lines}
    found = "user_id items.0.product_id items.1.quantity items.2"
    assert " ".join(wrong_fields(http.post("/orders", json=body))) == found


@pytest.mark.parametrize(
    "id",
    ["x", "a b", "a%2Fb", "a/b", "%3F%23%25", "%F0%9F%98%80", "x" * 2000, "%2E%2E", "%0A", "%ff"],
)
def test_a_message_id_may_be_any_text_without_nul(http: httpx.Client, id: str) -> None:
    problem(http.get(f"/messages/{id}"), 404)
    assert "text without NUL" in wrong_fields(http.get(f"/messages/{id}%00x"))["message_id"]


def test_request_ids(http: httpx.Client) -> None:
    assert problem(http.get("/x", headers={"X-Request-Id": "a-1"}), 404)["request_id"] == "a-1"
    for bad in (b"a b", b"x" * 129, b"\xff", b""):
        given = problem(http.get("/x", headers={b"X-Request-Id": bad}), 404)["request_id"]
        assert len(given) == 32


def test_a_taken_username_or_email_is_400(http: httpx.Client) -> None:
    first = http.post("/users", json={"username": "taken", "email": "taken@example.com"}).json()
    other = http.post("/users", json={"username": "other", "email": "other@example.com"}).json()
    for field, value in (("username", "TAKEN"), ("email", "Taken@Example.com")):
        new = {"username": "free", "email": "free@example.com", field: value}
        changed = http.put(f"/users/{other['id']}", json={field: value})
        for response in (http.post("/users", json=new), changed):
            error = problem(response, 400)
            assert (error["reason"], error["facts"]) == ("duplicate", {"field": field})
    assert http.put(f"/users/{first['id']}", json={"username": "Taken"}).status_code == 200


@pytest.mark.parametrize("same", ["username", "email"])
async def test_one_of_fifty_concurrent_sign_ups_gets_the_name(service: Service, same: str) -> None:
    first = {"username": same, "email": f"{same}@example.com"}
    bodies = [{"username": f"{same}{n}", "email": f"{same}{n}@example.com"} for n in range(50)]
    bodies = [{**body, same: first[same]} for body in bodies]
    async with service.client() as client:
        responses = await asyncio.gather(*(client.post("/users", json=body) for body in bodies))
    assert sorted(response.status_code for response in responses) == [201] + [400] * 49
