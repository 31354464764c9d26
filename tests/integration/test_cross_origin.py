"""CORS: pages of which other origins may call the API, and read its answers."""

import http.server
import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from app import web
from app.container import Container
from app.rest.asgi import places as places_module
from app.rest.asgi.places import Places, VegasLimit
from app.settings import Settings
from harness.bodies import USER
from harness.browser import browsing
from harness.lifespan import lifespan
from harness.served import Served, direct, served

SHOP = b"https://shop.example"
KEY = b"k" * 32


@asynccontextmanager
async def _service(
    settings: Settings, places: Places | None = None, **variables: Any
) -> AsyncIterator[Served]:
    changed = Settings(**{**settings.model_dump(), **variables})
    places = places or web.new_places()
    async with Container.open(changed) as container:
        app = web.create_app(container, places)
        async with lifespan(app), served(app, direct(container, places)) as server:
            yield server


def _request(method: bytes, path: bytes, *headers: bytes) -> bytes:
    head = [b"%s %s HTTP/1.1" % (method, path), b"Host: localhost", b"Connection: close"]
    return b"\r\n".join([*head, *headers, b"", b""])


def _preflight(path: bytes, origin: bytes) -> bytes:
    return _request(b"OPTIONS", path, b"Origin: " + origin, b"Access-Control-Request-Method: PUT")


async def _head(server: Served, request: bytes) -> tuple[int, dict[str, str]]:
    """The status and the headers; none comes twice."""
    head = (await server.answer(request)).partition(b"\r\n\r\n")[0].decode()
    first, *lines = head.split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in pairs}
    assert len(headers) == len(pairs), head
    return int(first.split()[1]), headers


def _is_readable(headers: dict[str, str], origin: bytes = SHOP) -> bool:
    return headers.get("access-control-allow-origin") == origin.decode()


# The fast path, the application, an unknown path, a method that is not allowed, probes.
PATHS = [b"/users/9007199254740991", b"/products/1?x=1", b"/users", b"/nothing", b"/health/live"]


@pytest.mark.parametrize("path", PATHS)
async def test_an_allowed_page_may_read_every_answer(settings: Settings, path: bytes) -> None:
    async with _service(settings, cors_origins=f"http://other.example,{SHOP.decode()}") as server:
        for method in (b"GET", b"HEAD", b"DELETE"):
            _, headers = await _head(server, _request(method, path, b"Origin: " + SHOP))
            assert _is_readable(headers)
            assert "ETag" in headers["access-control-expose-headers"]
            assert "access-control-allow-credentials" not in headers
            for origin in (b"https://evil.example", b"null", b"https://shop.example.evil.example"):
                _, headers = await _head(server, _request(method, path, b"Origin: " + origin))
                assert "access-control-allow-origin" not in headers
                assert headers["vary"] == "Origin"


@pytest.mark.parametrize("path", PATHS)
async def test_by_default_no_answer_says_a_word_of_it(settings: Settings, path: bytes) -> None:
    async with _service(settings) as server:
        for request in (_request(b"GET", path, b"Origin: " + SHOP), _preflight(path, SHOP)):
            _, headers = await _head(server, request)
            assert not re.search("access-control|vary", " ".join(headers))


async def test_refusals_can_be_read_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places_module, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(places_module, "PATIENCE_IN_A_CROWD_SECONDS", 0.0)
    places = Places(VegasLimit(1))
    variables = {"cors_origins": SHOP.decode(), "api_key": KEY.decode()}
    async with _service(settings, places, **variables) as server:
        origin, key = b"Origin: " + SHOP, b"X-API-Key: " + KEY
        text, length = b"Content-Type: text/plain", b"Content-Length: 2"
        for status, request in (
            (401, _request(b"GET", b"/users/1", origin)),
            (401, _request(b"GET", b"/users", origin)),
            (415, _request(b"POST", b"/users", origin, key, text, length) + b"{}"),
        ):
            assert (await _head(server, request))[0] == status
            assert _is_readable((await _head(server, request))[1])
        taken = []
        while places.has_room:
            taken.append(await places.take())
        status, headers = await _head(server, _request(b"GET", b"/users", origin, key))
        assert status == 503 and _is_readable(headers)
        assert "Retry-After" in headers["access-control-expose-headers"]
        # A preflight has no key, and needs no place.
        status, headers = await _head(server, _preflight(b"/users/1", SHOP))
        assert status == 204 and _is_readable(headers)
        assert "PUT" in headers["access-control-allow-methods"]
        assert "X-API-Key" in headers["access-control-allow-headers"]
        assert int(headers["access-control-max-age"])
        status, headers = await _head(server, _preflight(b"/users/1", b"https://evil.example"))
        assert status == 401 and "access-control-allow-methods" not in headers
        for place in taken:
            assert place
            place.release()


async def test_only_an_allowed_page_changes_something(settings: Settings) -> None:
    async with _service(settings, cors_origins=SHOP.decode()) as server:
        for origin, status in ((SHOP, 409), (b"https://evil.example", 403)):
            for site in ((), (b"Sec-Fetch-Site: cross-site",)):
                request = _request(
                    b"POST", b"/report?report_date=9999-01-01", b"Origin: " + origin, *site
                )
                assert (await _head(server, request))[0] == status


async def test_any_page_if_the_owner_says_so(settings: Settings) -> None:
    async with _service(settings, cors_origins="*") as server:
        for path in PATHS:
            _, headers = await _head(server, _request(b"GET", path, b"Origin: null"))
            assert _is_readable(headers, b"*") and "vary" not in headers
            assert "access-control-allow-credentials" not in headers
        status, headers = await _head(server, _preflight(b"/nothing", SHOP))
        assert status == 204 and _is_readable(headers, b"*")


_PAGE = """<!doctype html><pre id="seen"></pre><script>
const seen = {};
async function ask(name, method, path, headers, body) {
  try {
    const answer = await fetch("%(api)s" + path, {method, headers, body});
    const names = ["etag", "location", "x-request-id"];
    seen[name] = [answer.status, Object.fromEntries(names.map(n => [n, answer.headers.get(n)]))];
  } catch (error) { seen[name] = [0, {}]; }
}
(async () => {
  const key = {"X-API-Key": "%(key)s"}, json = {...key, "Content-Type": "application/json"};
  await ask("created", "POST", "/users", json, JSON.stringify(%(user)s));
  await ask("read", "GET", "/users/1", key);
  await ask("missing", "GET", "/products/1", key);
  await ask("unknown path", "PUT", "/nothing", json, "{}");
  await ask("invalid", "POST", "/users", json, "{}");
  await ask("no key", "GET", "/users/1", {});
  await ask("changed", "PATCH", "/users/1", {...json, "If-Match": '"x"'}, "{}");
  document.getElementById("seen").textContent = JSON.stringify(seen);
})();
</script>"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:  # pylint: disable=arguments-differ
        """The tests have no use for its lines."""


@contextmanager
def _elsewhere(directory: Path) -> Iterator[str]:
    """The origin of what is in the directory."""
    handler = partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_a_page_in_a_browser(
    settings: Settings, chromium: Browser, tmp_path: Path, is_allowed: bool
) -> None:
    with _elsewhere(tmp_path) as origin:
        allowed = origin if is_allowed else SHOP.decode()
        async with _service(settings, cors_origins=allowed, api_key=KEY.decode()) as server:
            api = f"http://localhost:{server.port}"
            given = {"api": api, "key": KEY.decode(), "user": json.dumps(USER)}
            (tmp_path / "page.html").write_text(_PAGE % given)
            async with browsing(chromium) as tab:
                await tab.open(f"{origin}/page.html")
                shown = tab.page.locator("#seen:not(:empty)")
                seen = json.loads(await shown.text_content() or "")
    statuses = {name: status for name, (status, _) in seen.items()}
    if not is_allowed:
        assert set(statuses.values()) == {0}
        return
    assert statuses == {
        "created": 201,
        "read": 200,
        "missing": 404,
        "unknown path": 404,
        "invalid": 422,
        "no key": 401,
        "changed": 405,
    }
    assert seen["created"][1]["location"] == "/users/1"
    assert seen["read"][1]["etag"] and all(headers["x-request-id"] for _, headers in seen.values())
