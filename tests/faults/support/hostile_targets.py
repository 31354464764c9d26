"""Hostile paths, queries, methods and headers, and bytes that are hardly HTTP."""

from tests.faults.support.requests import Hostile, request

_USER = b'{"username": "m", "email": "m@example.com"}'


def _get(target: str | bytes, *statuses: int) -> Hostile:
    return Hostile(request("GET", target), set(statuses))


IDENTITIES = {
    f"GET /users/{text}": _get(f"/users/{text}", *statuses)
    for text, statuses in {
        "0": (404, 422),
        "-1": (404, 422),
        "2147483648": (404, 422),
        "99999999999": (404, 422),
        "1" * 23: (404, 422),
        "1" * 5000: (404, 414, 422),
        "1e3": (404,),
        "0x1": (404,),
        "1.0": (404,),
        "+1": (404,),
        "01": (404,),
        "1_0": (404,),
        "%31%20": (404,),
        "%00": (404,),
        "%D9%A1": (404,),  # the Arabic digit 1
        "abc": (404,),
        "1;drop%20table%20users": (404,),
        "1%20OR%201=1": (404,),
        "..%2f..%2fetc%2fpasswd": (404,),
        "../../etc/passwd": (404,),
        "%2e%2e/%2e%2e/etc/passwd": (404,),
        "%ff%fe": (404,),
        "%ZZ": (404,),
        "null": (404,),
    }.items()
}
QUERIES = {
    f"GET {target}": _get(target, *statuses)
    for target, statuses in {
        "/users?page=0": (422,),
        "/users?page=-1": (422,),
        "/users?page=9000000000000000000": (422,),
        "/users?page=1e3": (200, 422),
        "/users?count=0": (422,),
        "/users?count=-1": (422,),
        "/users?count=1000000000": (422,),
        "/users?count=abc": (422,),
        "/users?count=%00": (422,),
        "/users?count=1&count=2": (422,),
        "/users?count=": (422,),
        "/users?count[]=1": (200, 422),
        "/users?" + "a=b&" * 3000: (200, 400, 414, 422),
        "/orders?user_id=9007199254740992": (422,),
        "/orders?user_id=1%27--": (422,),
        "/orders?status=%27;drop%20table%20orders--": (422,),
        "/orders?status=%ff": (422,),
        "/report?report_date=0000-00-00": (422,),
        "/report?report_date=2025-02-30": (422,),
        "/report?report_date=9999-12-31": (200,),
        "/report?report_date=0001-01-01": (200,),
        "/report?report_date=99999-01-01": (422,),
        "/report?report_date=1700000000": (422,),
        "/report?report_date=%00": (422,),
        "/messages/%00": (404, 422),
        "/messages/%0d%0aX-Injected:%20yes": (404,),
        "/messages/" + "a" * 5000: (404, 414, 422),
        "/messages/%ed%a0%80": (404, 422),
        "/messages/%1b[31mred": (404,),
        "/docs/../../../etc/passwd": (404,),
        "/docs/assets/..%2f..%2f..%2fsettings.py": (404,),
        "/.env": (404,),
        "/.git/config": (404,),
        "//users": (200, 404),
        "/users//1": (200, 404),
    }.items()
}
PROTOCOL = {
    "TRACE": Hostile(request("TRACE", "/users"), {405}),
    "CONNECT": Hostile(request("CONNECT", "localhost:80"), {400, 404, 405}),
    "an unknown method": Hostile(request("BREW", "/users"), {400, 405}),
    "PATCH": Hostile(request("PATCH", "/users/1", b"{}"), {405}),
    "DELETE of all": Hostile(request("DELETE", "/users"), {405}),
    "GET with a body": Hostile(request("GET", "/users", b"{}"), {200}),
    "text/plain": Hostile(request("POST", "/users", _USER, content_type="text/plain"), {415}),
    "a form": Hostile(
        request("POST", "/users", b"a=1", content_type="application/x-www-form-urlencoded"), {415}
    ),
    "multipart": Hostile(
        request("POST", "/users", b"--x--", content_type="multipart/form-data; boundary=x"), {415}
    ),
    "msgpack": Hostile(
        request("POST", "/users", b"\x80", content_type="application/x-msgpack"), {415}
    ),
    "no Host": Hostile(b"GET /users HTTP/1.1\r\nconnection: close\r\n\r\n", {400}),
    "a foreign Host": Hostile(request("GET", "/users", None, b"host: evil.example"), {400}),
    "a Host that is not text": Hostile(request("GET", "/users", None, b"host: \xff\xfe"), {400}),
    "a request id with a line break": Hostile(
        request("GET", "/users", None, b"x-request-id: a\x0bb"), {200, 400}
    ),
    "a request id of 10,000 characters": Hostile(
        request("GET", "/users", x_request_id="a" * 10_000), {200}
    ),
    "a malformed If-None-Match": Hostile(
        request("GET", "/users/1", None, b'if-none-match: "\xff", W/"', b"if-none-match: *"),
        {200, 304, 400},
    ),
    "an Idempotency-Key that is not text": Hostile(
        request("POST", "/users", _USER, b"idempotency-key: \xff\x01"), {400, 422}
    ),
    "an Idempotency-Key of 300 characters": Hostile(
        request("POST", "/users", _USER, idempotency_key="k" * 300), {422}
    ),
    "a negative length": Hostile(
        b"POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n", {400}
    ),
    "two lengths": Hostile(
        b"POST /users HTTP/1.1\r\nhost: localhost\r\n"
        b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        {400},
    ),
    "a length as well as chunks": Hostile(
        b"POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        {400},
    ),
    "a chunk of -1": Hostile(
        b"POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"transfer-encoding: chunked\r\n\r\n-1\r\n",
        {400},
    ),
    "a gzip body": Hostile(
        request("POST", "/users", b"\x1f\x8b\x08\x00", content_encoding="gzip"), {400, 415}
    ),
    "HTTP/3.0": Hostile(b"GET /users HTTP/3.0\r\nhost: localhost\r\n\r\n", {400}),
    "HTTP/0.9": Hostile(b"GET /users\r\n\r\n", {400}),
    "TLS": Hostile(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 50 + b"\r\n", {400}),
    "a target that is not text": Hostile(request("GET", b"/users/\xff\xfe"), {400, 404}),
    "an absolute URL as the target": Hostile(
        request("GET", "http://evil.example/users"), {200, 400, 404}
    ),
    "a header of 100,000 bytes": Hostile(
        request("GET", "/users", None, b"x-long: " + b"a" * 100_000), {200, 400, 431}
    ),
    "a WebSocket": Hostile(
        request(
            *("GET", "/users", None, b"upgrade: websocket", b"connection: upgrade"),
            sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==",
            sec_websocket_version="13",
        ),
        {200, 400, 403, 404, 426},
    ),
}
HOSTILE_TARGETS = IDENTITIES | QUERIES | PROTOCOL
