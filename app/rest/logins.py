"""The page that asks a browser for the API key, and where it leads back to."""

import re
from typing import Any
from urllib.parse import quote

from litestar import Request, Response

from app.rest.pages import page
from app.rest.policies import policy

# A path below the API's root, with its query: no way out of it, and nothing that breaks a header.
_PLACE = re.compile(r"(?!.*(\.\.|//))[\w%.~:@!$&'()*+,;=/?-]*", re.ASCII)


def place_of(request: Request[Any, Any, Any]) -> str:
    """Where the login leads back to: the path below the API's root, with its query."""
    path = quote(request.scope["path"].lstrip("/"))
    query = request.scope["query_string"].decode("latin-1")
    return place(f"{path}?{query}" if query else path)


def place(given: str) -> str:
    """The root in place of what a login must not lead to."""
    return given if _PLACE.fullmatch(given) else ""


def login_page(
    request: Request[Any, Any, Any], then: str, status: int = 200, told: str = ""
) -> Response[Any]:
    response = page(request, "login.html", policy(forms="'self'"), then=then, told=told)
    response.status_code = status
    return response
