"""How producer.py speaks to the API, with a server that answers as it is told."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from app.client import api as client_api
from app.client.api import CONNECTIONS, AddressBook, Api
from app.client.errors import CliError
from app.client.in_order import in_order
from app.schemas.addresses import AddressCreate
from app.schemas.users import UserCreate
from app.settings import Settings

USER = UserCreate(username="ann", email="ann@example.com")
ADDRESS = AddressCreate(street="S", city="C", country="D")
Answer = tuple[int, Any, dict[str, str]]
BUSY: Answer = (503, {"detail": "busy"}, {"Retry-After": "0"})


class Server:
    """`answer` is called with each request's line, head and body. The response to the request with
    the number `loses` never arrives."""

    def __init__(self, answer: Callable[[str, str, Any], Awaitable[Answer]]) -> None:
        self.connections = 0
        self.closes_after = 10_000
        self.loses: int | None = None
        self._requests = 0
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for _ in range(self.closes_after):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"content-length: (\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b"null"
                line = head.partition(" HTTP/1.1")[0]
                status, content, headers = await self._answer(line, head, json.loads(body))
                self._requests += 1
                if self._requests == self.loses:
                    break
                text = json.dumps(content).encode()
                lines = {"Content-Length": len(text), **headers}.items()
                fields = "".join(f"{name}: {value}\r\n" for name, value in lines)
                writer.write(f"HTTP/1.1 {status} -\r\n{fields}\r\n".encode() + text)
        except asyncio.IncompleteReadError:
            pass
        writer.close()


@asynccontextmanager
async def opened(server: Server, path: str = "") -> AsyncIterator[Api]:
    async with AsyncExitStack() as stack:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        stack.callback(listening.close)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}{path}"
        settings = Settings(_env_file=None, api_url=url)
        yield await stack.enter_async_context(Api.open(settings))


def scripted(*answers: Answer) -> tuple[Server, list[tuple[str, str]]]:
    """The last answer is for all further requests."""
    asked: list[tuple[str, str]] = []

    async def answer(line: str, head: str, _: Any) -> Answer:
        asked.append((line, head))
        return answers[min(len(asked), len(answers)) - 1]

    return Server(answer), asked


LOOK, ADD = "GET /users/1/addresses?count=100", "POST /users/1/addresses"
NONE: Answer = (200, {"addresses": []}, {})
THERE: Answer = (200, {"addresses": [{"id": 7, **ADDRESS.model_dump()}]}, {})


@pytest.mark.parametrize(
    "answers, lines",
    [
        ([NONE, BUSY, NONE, BUSY, NONE, (201, {"id": 7}, {})], [LOOK, ADD] * 3),
        ([NONE, BUSY, THERE], [LOOK, ADD, LOOK]),  # the 503 had acted
    ],
)
async def test_an_address_is_looked_for_before_each_repeat(
    answers: list[Answer], lines: list[str]
) -> None:
    server, asked = scripted(*answers)
    async with opened(server) as api:
        book = AddressBook(api)
        assert await book.add(1, ADDRESS) == (7, True)
        assert await book.add(1, ADDRESS) == (7, False)
    assert [line for line, _ in asked] == lines
    assert server.connections == 1


async def test_an_address_is_looked_for_when_the_connection_is_lost() -> None:
    server, asked = scripted(NONE, (500, {}, {}), THERE)
    server.loses = 2
    async with opened(server) as api:
        assert await AddressBook(api).add(1, ADDRESS) == (7, True)
    assert [line for line, _ in asked] == [LOOK, ADD, LOOK]
    assert server.connections == 2


async def test_a_service_that_stays_busy_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_api, "PATIENCE_SECONDS", 0.0)
    server, _ = scripted(BUSY)
    async with opened(server) as api:
        with pytest.raises(CliError, match=r"users.jsonl:3: POST http.*/users: 503 busy"):
            await api.post("/users", USER, "users.jsonl:3")


async def test_only_a_503_with_retry_after_is_tried_again() -> None:
    answers: list[Answer] = [(503, {"detail": "broken"}, {}), (400, {"detail": "taken"}, {})]
    for answer in answers:
        server, asked = scripted(answer)
        async with opened(server) as api:
            with pytest.raises(CliError, match=answer[1]["detail"]):
                await api.post("/users", USER)
        assert len(asked) == 1


async def test_a_pause_is_as_long_as_the_service_says(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    busy: Answer = (503, {}, {"Retry-After": "3"})
    server, _ = scripted(busy, busy, busy, (200, {"id": 1}, {}))
    async with opened(server) as api:
        monkeypatch.setattr(asyncio, "sleep", note)
        assert await api.get("/users/1") == {"id": 1}
    least = [3, 6, 8]
    assert all(few <= pause <= 1.5 * few for few, pause in zip(least, pauses, strict=True))


async def test_a_connection_that_the_service_has_closed_is_opened_again() -> None:
    server, _ = scripted((200, {"id": 1}, {}))
    server.closes_after = 1
    async with opened(server) as api:
        for _ in range(3):
            assert await api.get("/users/1") == {"id": 1}
    assert server.connections == 3


async def test_the_rows_of_all_pages_come_by_their_links() -> None:
    pages = [
        (200, {"users": [{"id": n}]}, {"Link": f'</users?after={n}>; rel="next"'}) for n in "ab"
    ]
    server, asked = scripted(*pages, (200, {"users": [{"id": "c"}]}, {}))
    async with opened(server) as api:
        assert [row["id"] async for row in api.rows("/users", "users")] == ["a", "b", "c"]
    lines = [line for line, _ in asked]
    assert lines == ["GET /users?count=100", "GET /users?after=a", "GET /users?after=b"]


async def test_requests_share_few_connections_and_an_address_is_added_once() -> None:
    at_work = most = 0
    posted: list[Any] = []

    async def answer(line: str, _: str, body: Any) -> Answer:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0)
        at_work -= 1
        if line.startswith("POST"):
            posted.append(body)
            return 201, {"id": len(posted)}, {}
        return 200, {"addresses": []}, {}

    server = Server(answer)
    async with opened(server) as api:
        book = AddressBook(api)
        users = [1, 2, 3] * 20
        calls = ((user, ADDRESS) for user in users)
        found = [result async for result in in_order(book.add, calls, 50)]
    assert len(posted) == sum(is_new for _, is_new in found) == 3
    by_user = {user: id for user, (id, _) in zip(users, found, strict=True)}
    assert [id for id, _ in found] == [by_user[user] for user in users]
    assert most <= server.connections <= CONNECTIONS


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://localhost", "http://", "http://[x"])
async def test_a_wrong_url_is_named(url: str) -> None:
    with pytest.raises(CliError, match="API_URL"):
        async with Api.open(Settings(_env_file=None, api_url=url or "x")):
            pass


async def test_what_is_not_http_is_an_error() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Api.open(Settings(_env_file=None, api_url=url)) as api:
        with pytest.raises(CliError, match="is the API running there"):
            await api.get("/users/1")


async def test_results_are_in_order_and_few_calls_are_at_work() -> None:
    at_work = most = 0

    async def call(number: int) -> int:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        for _ in range(number % 5):
            await asyncio.sleep(0)
        at_work -= 1
        return number

    assert [n async for n in in_order(call, zip(range(40)), 4)] == list(range(40))
    assert most == 4


async def test_the_first_error_in_order_ends_all() -> None:
    ended: list[int] = []

    async def call(number: int) -> int:
        try:
            if number == 2:
                await asyncio.sleep(0)
                raise CliError("two")
            if number == 3:
                raise CliError("three")
            await asyncio.sleep(0 if number < 2 else 60)
            return number
        finally:
            ended.append(number)

    found = []
    with pytest.raises(CliError, match="two"):
        async for number in in_order(call, zip(range(9)), 6):
            found.append(number)
    assert found == [0, 1] and sorted(ended) == list(range(max(ended) + 1))
