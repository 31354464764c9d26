"""A browser passes the API key once, in a form, and then has a session."""

# pylint: disable=redefined-outer-name

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from app.container import Container
from app.controllers import sessions
from app.rest.sessions import COOKIE, SECONDS, Sessions
from harness.dependencies import Dependencies
from harness.served import as_served
from harness.waiting import eventually

KEY = "k" * 32
PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
# The application answers, the protocol itself, and a page.
CLOSED = {"/users": 200, "/users/1": 404, "/products/1": 404, "/orders/1/life": 404}


@asynccontextmanager
async def _served(dependencies: Dependencies, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        Container.open(dependencies.settings(**settings)) as container,
        as_served(container) as server,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{server.port}", trust_env=False, timeout=30
        ) as client,
    ):
        client.headers["Origin"] = str(client.base_url).rstrip("/")
        yield client


@pytest.fixture
async def door(dependencies: Dependencies) -> AsyncIterator[httpx.AsyncClient]:
    async with _served(dependencies, api_key=KEY) as client:
        yield client


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "PAUSE_SECONDS", 0)


async def _log_in(client: httpx.AsyncClient, **form: str) -> httpx.Response:
    return await client.post("/login", data={"key": KEY, **form})


async def _statuses(client: httpx.AsyncClient, session: str | None = None) -> dict[str, int]:
    headers = {"Cookie": f"other=1; {COOKIE}={session}"} if session else {}
    return {path: (await client.get(path, headers=headers)).status_code for path in CLOSED}


async def test_a_session_opens_what_the_key_opens(door: httpx.AsyncClient) -> None:
    assert set((await _statuses(door)).values()) == {401}
    logged_in = await _log_in(door, then="orders/1/life?x=1")
    assert (logged_in.status_code, logged_in.headers["location"]) == (303, "./orders/1/life?x=1")
    assert await _statuses(door) == CLOSED
    user = {"username": "anna", "email": "anna@example.com"}
    assert (await door.post("/users", json=user)).status_code == 201
    assert "logout" in (await door.get("/login", headers=PAGE)).text

    logged_out = await door.post("/logout")
    assert (logged_out.status_code, logged_out.headers["location"]) == (303, "./login")
    assert set((await _statuses(door)).values()) == {401}


@pytest.mark.parametrize("path", ["/users/1", "/orders/1/life?x=%2F", "/login"])
async def test_a_page_without_the_key_is_the_form(door: httpx.AsyncClient, path: str) -> None:
    page = await door.get(path, headers=PAGE)
    assert page.status_code == (200 if path == "/login" else 401)
    assert page.headers["content-type"].startswith("text/html")
    assert "form-action 'self'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    [action] = re.findall('action="([^"]+)"', page.text)
    assert page.url.join(action).path == "/login"
    [then] = re.findall('name="then" value="([^"]*)"', page.text)
    assert then == ("" if path == "/login" else path[1:])


async def test_who_asks_for_json_gets_a_problem(door: httpx.AsyncClient) -> None:
    for accepted in ({}, {"Accept": "*/*"}, {"Accept": "application/json, text/html;q=0.5"}):
        refused = await door.get("/orders/1/life", headers=accepted)
        assert refused.headers["content-type"] == "application/problem+json"
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("origin", "is_secure"),
    [("http://localhost", False), ("https://localhost", True), (None, True)],
)
async def test_the_cookie(dependencies: Dependencies, origin: str | None, is_secure: bool) -> None:
    async with _served(dependencies, api_key=KEY) as client:
        client.headers.pop("Origin")
        headers = {"Host": "localhost", **({"Origin": origin} if origin else {})}
        response = await client.post("/login", data={"key": f" {KEY}\n"}, headers=headers)
    [cookie] = response.headers.get_list("set-cookie")
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    secure = {"secure"} if is_secure else set()
    assert attributes == {"httponly", "samesite=strict", f"max-age={SECONDS}", *secure}
    assert KEY not in cookie


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize(
    "body",
    [b"key=", b"key=k", b"", b"key=%ff%00", b"key=\xff", b"key=k&key=l", b"x" * 100_000,
     f"then={KEY}".encode(), f"key={KEY}k".encode(), "key=ключ".encode()],
)  # fmt: skip
async def test_a_wrong_key_gets_no_session(door: httpx.AsyncClient, body: bytes) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    refused = await door.post("/login", content=body, headers=form)
    assert refused.status_code == 401
    assert "This is not the key" in refused.text
    assert "set-cookie" not in refused.headers
    assert set((await _statuses(door)).values()) == {401}


async def test_the_login_takes_a_form_and_nothing_else_takes_one(door: httpx.AsyncClient) -> None:
    assert (await door.post("/login", json={"key": KEY})).status_code == 415
    await _log_in(door)
    assert (await door.post("/users", data={"username": "anna"})).status_code == 415


async def test_a_new_key_ends_all_sessions(dependencies: Dependencies) -> None:
    session = Sessions(KEY.encode()).begin(time.time())
    for key, statuses in ((KEY, CLOSED), ("another", dict.fromkeys(CLOSED, 401))):
        async with _served(dependencies, api_key=key) as client:
            assert await _statuses(client, session) == statuses


async def test_a_session_that_was_changed_or_is_too_old_is_none(door: httpx.AsyncClient) -> None:
    now = time.time()
    fresh = Sessions(KEY.encode()).begin(now)
    end, signature = fresh.split(".")
    assert await _statuses(door, fresh) == CLOSED
    for session in (
        Sessions(KEY.encode()).begin(now - SECONDS - 1),
        f"{int(end) + 1}.{signature}",
        f"9{end}.{signature}",
        f"{end}.{signature[::-1]}",
        f"{end}.{signature[:-1]}",
        f"{end}.{signature}0",
        f"{end}.",
        f".{signature}",
        "x" * 10_000,
    ):
        assert set((await _statuses(door, session)).values()) == {401}, session
    # A service on another port of the same machine may have set one of the same name.
    assert await _statuses(door, f"x; {COOKIE}={fresh}") == CLOSED


@pytest.mark.parametrize(
    "then",
    ["//evil.example", "/\\evil.example", "https://evil.example//x", "../../x", "a/..//b",
     "a\nb: c",
     "a\r\nSet-Cookie: x=y", "\x00", "é"],
)  # fmt: skip
async def test_the_login_leads_to_no_other_place(door: httpx.AsyncClient, then: str) -> None:
    response = await _log_in(door, then=then)
    assert (response.status_code, response.headers["location"]) == (303, "./")


@pytest.mark.parametrize(
    "foreign", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}]
)
async def test_pages_of_other_origins_have_no_use_for_a_session(
    door: httpx.AsyncClient, foreign: dict[str, str]
) -> None:
    await _log_in(door)
    for method, path in (
        ("POST", "/login"),
        ("POST", "/logout"),
        ("POST", "/report"),
        ("PUT", "/users/1"),
        ("PATCH", "/users/1"),
        ("DELETE", "/users/1"),
        ("POST", f"/dead-letters/order/{'0' * 32}/retry"),
    ):
        assert (await door.request(method, path, headers=foreign)).status_code == 403, path
    assert await _statuses(door) == CLOSED


async def test_a_page_that_may_call_the_api_cannot_use_a_session(
    dependencies: Dependencies,
) -> None:
    """It sends the key itself. On this machine its origin is of the same site, so the browser would
    send the cookie along."""
    other = "http://localhost:5173"
    async with _served(dependencies, api_key=KEY, cors_origins=other) as client:
        session = (await _log_in(client)).cookies[COOKIE]
        user = {"username": "jane", "email": "jane@example.com"}
        headers = {"Origin": other, "Sec-Fetch-Site": "same-site", "Cookie": f"{COOKIE}={session}"}
        assert (await client.post("/users", json=user, headers=headers)).status_code == 401
        headers |= {"X-API-Key": KEY}
        assert (await client.post("/users", json=user, headers=headers)).status_code == 201


async def test_the_right_key_is_let_in_however_many_fail(
    door: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "PAUSE_SECONDS", 5)
    wrong = [asyncio.create_task(door.post("/login", data={"key": "x"})) for _ in range(16)]
    await eventually(sessions._pauses.locked)  # pylint: disable=protected-access
    refused = await door.post("/login", data={"key": "x"})
    assert (refused.status_code, "Too many" in refused.text) == (429, True)
    assert (await _log_in(door)).status_code == 303
    assert not any(task.done() for task in wrong)
    assert {response.status_code for response in await asyncio.gather(*wrong)} == {401}


async def test_without_a_key_there_is_nothing_to_log_in_to(client: httpx.AsyncClient) -> None:
    for response in (await client.get("/login"), await client.post("/login", data={"key": "x"})):
        assert (response.status_code, response.headers["location"]) == (303, "./")
