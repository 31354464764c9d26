"""The HTTP API of the running service."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
from pydantic import BaseModel

from app.client.errors import CliError
from app.schemas.addresses import AddressCreate
from app.settings import Settings


class Api:
    """Raises CliError for every failure but a 404 to a GET."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Api"]:
        key = settings.api_key
        async with httpx.AsyncClient(
            base_url=settings.api_url,
            headers={"X-API-Key": key.get_secret_value()} if key else None,
            timeout=5,
            trust_env=False,  # a proxy in the environment is not for our own service
        ) as client:
            yield cls(client)

    async def get(self, path: str, **query: int) -> dict[str, Any]:
        """The response's object; {} for a 404."""
        return await self._call("GET", path, params=query)

    async def post(self, path: str, body: BaseModel, place: str | None = None) -> int:
        """The id of the created resource. `place`, where the body comes from, begins the text of
        an error."""
        try:
            content = await self._call("POST", path, json=body.model_dump(mode="json"))
        except CliError as error:
            raise CliError(f"{place}: {error}" if place else str(error)) from error
        return cast(int, content["id"])

    async def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        url = f"{self._client.base_url}".rstrip("/")
        try:
            response = await self._client.request(method, path, **options)
            content = response.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise CliError(
                f"no usable response from {url}: is the API running there? See API_URL ({error!r})"
            ) from error
        if response.status_code == 404 and method == "GET":
            return {}
        if response.is_error or not isinstance(content, dict):
            detail = content.get("detail") if isinstance(content, dict) else None
            raise CliError(f"{method} {url}{path}: {response.status_code} {detail or ''}")
        return content

    async def rows(self, path: str, name: str) -> AsyncIterator[dict[str, Any]]:
        """Every row of a paged list, which the response holds under `name`."""
        page = 1
        while found := (await self.get(path, count=100, page=page)).get(name):
            for row in found:
                yield row
            page += 1

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

    async def address(self, user_id: int, body: AddressCreate) -> tuple[int, bool]:
        """The id of the user's address with exactly these fields, and whether it had to be
        created."""
        path = f"/users/{user_id}/addresses"
        async for row in self.rows(path, "addresses"):
            if body.model_dump().items() <= row.items():
                return row["id"], False
        return await self.post(path, body), True

    async def first_address(self, user_id: int) -> int | None:
        found = (await self.get(f"/users/{user_id}/addresses", count=1)).get("addresses")
        return cast(int, found[0]["id"]) if found else None
