import asyncio
import time
from http import HTTPStatus
from typing import Any

from litestar import Controller, Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.response import Redirect

from app.rest.errors import TOLD
from app.rest.logins import login_page, place
from app.rest.pages import page
from app.rest.policies import policy
from app.rest.sessions import SECONDS, Sessions, cookie

# A wrong key is told after a pause. The right one is let in at once, however many others fail: a
# limit for all would lock out everybody. RATE_LIMIT holds back each address, if it is set; what
# makes guessing hopeless is the length of the key.
PAUSE_SECONDS = 1.0
_pauses = asyncio.Semaphore(16)


class SessionController(Controller):
    """For browsers. Not in the API's document: its clients send the key with each request."""

    path = "/"
    include_in_schema = False

    @get("/login")
    async def ask(self, request: Request[Any, Any, Any]) -> Response[Any]:
        return login_page(request, "") if _sessions(request) else _to("")

    @post("/login")
    async def begin(self, request: Request[Any, Any, Any]) -> Response[Any]:
        form, sessions = await request.form(), _sessions(request)
        then = place(str(form.get("then", "")))
        if sessions is None:
            return _to(then)
        if not sessions.is_key(str(form.get("key", "")).encode(errors="replace")):
            return await _failed(request, then)
        value = sessions.begin(time.time())
        return _to(then, cookie(value, SECONDS, request.headers.get("origin")))

    @get("/logout")
    async def confirm_end(self, request: Request[Any, Any, Any]) -> Response[Any]:
        return page(request, "logout.html", policy(forms="'self'"))

    @post("/logout")
    async def end(self, request: Request[Any, Any, Any]) -> Response[Any]:
        return _to("login", cookie("", 0, request.headers.get("origin")))


def _sessions(request: Request[Any, Any, Any]) -> Sessions | None:
    key = request.app.state.container.settings.api_key
    return Sessions(key.get_secret_value().encode()) if key else None


def _to(path: str, *cookies: Cookie) -> Response[Any]:
    """From /login and /logout. Relative, as the links of the pages are."""
    return Redirect(f"./{path}", status_code=303, cookies=cookies)


async def _failed(request: Request[Any, Any, Any], then: str) -> Response[Any]:
    request.scope["state"][TOLD]["reason"] = "wrong-key"
    if _pauses.locked():
        told = "Too many logins fail at this moment: try again in a few seconds."
        return login_page(request, then, HTTPStatus.TOO_MANY_REQUESTS, told)
    async with _pauses:
        await asyncio.sleep(PAUSE_SECONDS)
    return login_page(request, then, HTTPStatus.UNAUTHORIZED, "This is not the key.")
