"""The HTTP API of the running service."""

import asyncio
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlencode

from pydantic import BaseModel

from app.client.errors import CliError
from app.client.http import HttpClient, HttpResponse
from app.schemas.addresses import AddressCreate
from app.settings import Settings

CONNECTIONS = 8
# A service that is busy or has no database is asked again for so long.
PATIENCE_SECONDS = 30.0
_MOST_PAUSE = 8.0
_TIMEOUT = 5.0
_NEXT = re.compile(r'<([^>]*)>; *rel="?next"?')

Find = Callable[[], Awaitable[dict[str, Any] | None]]


class Api:
    """Raises CliError for every failure but a 404 to a GET. At most CONNECTIONS requests are on
    their way at a time."""

    def __init__(self, url: str, client: HttpClient) -> None:
        self._url = url
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Api"]:
        key, url = settings.api_key, settings.api_url.rstrip("/")
        headers = [(b"x-api-key", key.get_secret_value().encode())] if key else []
        try:
            client = HttpClient(url, headers, CONNECTIONS, _TIMEOUT)
        except ValueError as error:
            raise _unusable(url, error) from error
        try:
            yield cls(url, client)
        finally:
            client.close()

    async def get(self, path: str) -> dict[str, Any]:
        """The response's object; {} for a 404."""
        content, _ = await self._call("GET", path)
        return content

    async def post(
        self, path: str, body: BaseModel, place: str | None = None, find: Find | None = None
    ) -> int:
        """The id of the created resource. `place`, where the body comes from, begins the text of
        an error.

        It may be sent again after it has acted: neither a 503 nor a lost connection says that
        nothing was done. What could then be there twice needs `find`, which looks for it before
        each repeat: an Idempotency-Key would cost the service as much as the POST itself. What is
        unique is refused, and the next run finds it."""
        try:
            content, _ = await self._call("POST", path, body.model_dump_json().encode(), find)
        except CliError as error:
            raise CliError(f"{place}: {error}" if place else str(error)) from error
        return cast(int, content["id"])

    async def rows(self, path: str, name: str) -> AsyncIterator[dict[str, Any]]:
        """Every row of a list, which the response holds under `name`."""
        following: str | None = f"{path}?{urlencode({'count': 100})}"
        while following:
            found, headers = await self._call("GET", following)
            for row in found.get(name, ()):
                yield row
            link = _NEXT.search(headers.get("link", ""))
            following = link[1] if link else None

    async def ids(
        self, name: str, key: Callable[[Any], str], wanted: Collection[str]
    ) -> dict[str, int]:
        """The ids, by key, of the users or products whose key is wanted. Those that do not exist
        are missing."""
        found: dict[str, int] = {}
        if wanted:
            async for row in self.rows(f"/{name}", name):
                if key(row) in wanted:
                    found[key(row)] = row["id"]
                if len(found) == len(wanted):
                    break
        return found

    async def first_address(self, user_id: int) -> int | None:
        found = (await self.get(f"/users/{user_id}/addresses?count=1")).get("addresses")
        return cast(int, found[0]["id"]) if found else None

    async def _call(
        self, method: str, path: str, body: bytes = b"", find: Find | None = None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        try:
            response = await self._patiently(method, path, body, find)
            if isinstance(response, dict):
                return response, {}
            content = json.loads(response.body)
        except (OSError, TimeoutError, ValueError) as error:
            raise _unusable(self._url, error) from error
        if response.status == 404 and method == "GET":
            return {}, {}
        if response.status >= 300 or not isinstance(content, dict):
            detail = content.get("detail") if isinstance(content, dict) else None
            path = path.partition("?")[0]
            raise CliError(f"{method} {self._url}{path}: {response.status} {detail or ''}")
        return content, response.headers

    async def _patiently(
        self, method: str, path: str, body: bytes, find: Find | None
    ) -> HttpResponse | dict[str, Any]:
        """A 503 that says when to come back is tried again, later and later. What `find` finds
        meanwhile ends that."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        factor = 1.0
        while True:
            try:
                response = await self._client.send(method, path, body, is_repeatable=find is None)
                after = response.headers.get("retry-after", "")
                if response.status != 503 or not after.isdecimal() or time.monotonic() > deadline:
                    return response
            except ConnectionError:
                if find is None or time.monotonic() > deadline:
                    raise
                after = "1"
            # At random, so that those who were refused together do not come back together.
            pause = min(int(after) * factor, _MOST_PAUSE)
            await asyncio.sleep(pause * random.uniform(1, 1.5))
            factor *= 2
            if find and (found := await find()):
                return found


class AddressBook:
    """Adds addresses to users, none of them twice."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[int, list[dict[str, Any]]] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    def note_new_user(self, user_id: int) -> None:
        """A new user has no addresses that would have to be asked for."""
        self._known[user_id] = []

    async def add(self, user_id: int, body: AddressCreate) -> tuple[int, bool]:
        """The id of the user's address with exactly these fields, and whether it had to be
        created."""
        fields, path = body.model_dump(), f"/users/{user_id}/addresses"

        async def look() -> dict[str, Any] | None:
            self._known[user_id] = [row async for row in self._api.rows(path, "addresses")]
            return self._find(user_id, fields)

        async with self._locks[user_id]:
            known = self._find(user_id, fields) if user_id in self._known else await look()
            if known:
                return known["id"], False
            address_id = await self._api.post(path, body, find=look)
            self._known[user_id].append({**fields, "id": address_id})
            return address_id, True

    def _find(self, user_id: int, fields: dict[str, Any]) -> dict[str, Any] | None:
        return next((row for row in self._known[user_id] if fields.items() <= row.items()), None)


def _unusable(url: str, error: Exception) -> CliError:
    return CliError(
        f"no usable response from {url}: is the API running there? See API_URL ({error!r})"
    )
