"""Where the service runs, its HTTP API, and its queues with answers."""

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, cast
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from app import state_file
from app.errors import Unavailable
from app.messaging.broker import Broker, Outgoing
from app.messaging.opening import open_broker
from app.schemas.addresses import AddressCreate
from app.schemas.messages import MessageRead, MessageStatus
from app.settings import Settings

WINDOW = 256
# A reply later than this may be lost, so HTTP is asked; a longer silence ends the waiting.
ASK_SECONDS = 3.0
PATIENCE_SECONDS = 30.0
RETRY_SECONDS = 1.0


class CliError(Exception):
    """What stands in the way, in one line."""


def running_stack(settings: Settings) -> Settings:
    """`python main.py` writes down where its servers are; what is configured goes before it."""
    state = state_file.read(settings.data_dir)
    if settings.has_database or not _is_running(state.get("pid")):
        return settings
    if "api_url" not in state:
        raise CliError("the service is still starting: try again in a moment")
    chosen = settings.model_fields_set | ({"queue_transport"} if settings.rabbitmq_host else set())
    names = {"api_url", "redis_host", "redis_port", "queue_transport"} & set(state) - chosen
    return settings.model_copy(update={name: state[name] for name in names})


def _is_running(pid: object) -> bool:
    with suppress(OSError, OverflowError):  # no such process; no possible pid
        if isinstance(pid, int):
            os.kill(pid, 0)
            return True
    return False


class Api:
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
        """Empty where nothing is found."""
        return await self._call("GET", path, params=query)

    async def post(self, path: str, body: BaseModel, place: str | None = None) -> int:
        """The id of what it makes. `place` is where the body comes from."""
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
                f"the API does not answer at {url}: is it running? See API_URL ({error!r})"
            ) from error
        if response.status_code == 404 and method == "GET":
            return {}
        if response.is_error or not isinstance(content, dict):
            detail = content.get("detail") if isinstance(content, dict) else None
            raise CliError(f"{method} {url}{path}: {response.status_code} {detail or ''}")
        return content

    async def rows(self, path: str, name: str) -> AsyncIterator[dict[str, Any]]:
        page = 1
        while found := (await self.get(path, count=100, page=page)).get(name):
            for row in found:
                yield row
            page += 1

    async def ids(
        self, name: str, key: Callable[[Any], str], wanted: Collection[str]
    ) -> dict[str, int]:
        """The ids of the wanted rows of /users or /products."""
        found: dict[str, int] = {}
        if wanted:
            async for row in self.rows(f"/{name}", name):
                if key(row) in wanted:
                    found[key(row)] = row["id"]
                if len(found) == len(wanted):
                    break
        return found

    async def address(self, user_id: int, body: AddressCreate) -> tuple[int, bool]:
        """The id of an address of the user that is just so, made if need be; and whether it was."""
        path = f"/users/{user_id}/addresses"
        async for row in self.rows(path, "addresses"):
            if body.model_dump().items() <= row.items():
                return row["id"], False
        return await self.post(path, body), True

    async def first_address(self, user_id: int) -> int | None:
        found = (await self.get(f"/users/{user_id}/addresses", count=1)).get("addresses")
        return cast(int, found[0]["id"]) if found else None


class Sender:
    """Publishes in order, and hears what became of each message."""

    def __init__(self, broker: Broker, api: Api) -> None:
        self._broker = broker
        self._api = api
        self._reply_to = ""
        self._unanswered: dict[str, asyncio.Future[MessageRead]] = {}
        self._heard_at = 0.0

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, api: Api) -> AsyncIterator["Sender"]:
        broker = open_broker(settings)
        sender = cls(broker, api)
        try:
            async with broker.replies(sender.hear) as sender._reply_to:
                yield sender
        finally:
            await broker.close()

    def hear(self, reply: bytes) -> None:
        self._settle(MessageRead.model_validate_json(reply))

    def _settle(self, outcome: MessageRead) -> None:
        self._heard_at = time.monotonic()
        waiting = self._unanswered.get(outcome.message_id)
        if waiting and not waiting.done() and outcome.status is not MessageStatus.FAILING:
            waiting.set_result(outcome)

    async def outcomes(
        self, messages: Iterable[Outgoing]
    ) -> AsyncIterator[tuple[Outgoing, MessageRead | None]]:
        """In the order of the messages; None for one that nobody has answered."""
        sent: deque[Outgoing] = deque()
        for message in messages:
            if len(sent) == WINDOW:
                yield sent[0], await self._outcome(sent.popleft())
            await self._send(message)
            sent.append(message)
        for message in sent:
            yield message, await self._outcome(message)

    async def _send(self, message: Outgoing) -> None:
        self._unanswered[message.message_id] = asyncio.get_running_loop().create_future()
        self._heard_at = time.monotonic()
        while True:
            try:
                # Twice does no harm: a message id is applied once.
                return await self._broker.publish(replace(message, reply_to=self._reply_to))
            except Unavailable:
                if time.monotonic() > self._heard_at + PATIENCE_SECONDS:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def _outcome(self, message: Outgoing) -> MessageRead | None:
        waiting = self._unanswered[message.message_id]
        while not waiting.done():
            left = self._heard_at + PATIENCE_SECONDS - time.monotonic()
            if left <= 0:
                break
            await asyncio.wait({waiting}, timeout=min(left, ASK_SECONDS))
            if not waiting.done():
                await self._ask()
        del self._unanswered[message.message_id]
        return waiting.result() if waiting.done() else None

    async def _ask(self) -> None:
        """A reply is sent once and may be lost; what became of it stands in the database."""
        with suppress(CliError):
            for message_id in list(self._unanswered):
                if found := await self._api.get(f"/messages/{quote(message_id, safe='')}"):
                    self._settle(MessageRead.model_validate(found))
