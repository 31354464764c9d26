"""The pages of dead letters: what they allow, what they need, and what they say when it is away.
tests/e2e/test_dead_letter_pages.py uses them in a browser."""

import asyncio
import re
from html import unescape

import httpx
import pytest

from app import web
from app.container import Container
from app.queues import CONSUMED, Queue
from app.rest.asgi.limiter import needs_place
from app.services import dead_letters
from harness.lifespan import lifespan
from harness.queues import QueueClient

PAGE = {"Accept": "text/html"}
_LIST = "/dead-letters/product"


async def _letter(client: httpx.AsyncClient, queues: QueueClient) -> str:
    await queues.send(Queue.PRODUCT.dead, b"{", "<script>alert(1)</script>")
    (letter,) = (await client.get(_LIST)).json()["letters"]
    return f"{_LIST}/{letter['id']}"


@pytest.mark.parametrize("transport", ["rabbitmq", "streams"])
async def test_the_letters_of_each_queue_are_counted(
    client: httpx.AsyncClient, queues: QueueClient
) -> None:
    assert {total for _, total in await _totals(client)} == {0}
    assert "There are none." in (await client.get("/dead-letters", headers=PAGE)).text
    await queues.send(Queue.PRODUCT.dead, b"{")
    assert set(await _totals(client)) == {(q, int(q == Queue.PRODUCT)) for q in CONSUMED}
    assert "There are none." not in (await client.get("/dead-letters", headers=PAGE)).text


async def _totals(client: httpx.AsyncClient) -> list[tuple[str, int]]:
    counted = (await client.get("/dead-letters")).json()
    return [(of_queue["queue"], of_queue["total"]) for of_queue in counted["queues"]]


async def test_only_pages_with_a_form_may_send_one(
    client: httpx.AsyncClient, queues: QueueClient
) -> None:
    letter = await _letter(client, queues)
    forms = {f"{letter}/confirm-retry", f"{letter}/confirm-drop", "/logout"}
    others = {"/dead-letters", _LIST, letter, f"{letter}/retried?id=x", "/docs/queues"}
    for path in forms | others:
        page = await client.get(path, headers=PAGE)
        assert page.headers["content-type"].startswith("text/html"), path
        policy = page.headers["content-security-policy"].split("; ")
        assert ("form-action 'self'" if path in forms else "form-action 'none'") in policy, path
        assert {"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} <= {*policy}
        assert ("<form" in page.text) == (path in forms), path
        assert "<script>alert" not in page.text


@pytest.mark.parametrize("slash", ["", "/"])
async def test_every_link_leads_somewhere(
    client: httpx.AsyncClient, queues: QueueClient, slash: str
) -> None:
    """They are relative, and a slash at the end makes them longer."""
    letter = await _letter(client, queues)
    for path in ("/dead-letters", _LIST, letter, f"{letter}/confirm-drop", "/logout"):
        page = await client.get(f"{path}{slash}", headers=PAGE)
        for link in set(re.findall('href="([^"#]+)"', page.text)):
            found = await client.get(page.url.join(unescape(link)))
            assert found.status_code == 200, (path, link)


async def test_what_is_not_there_is_told_in_words(client: httpx.AsyncClient) -> None:
    for path in (f"{_LIST}/{'0' * 32}", "/orders/1/life"):
        page = await client.get(path, headers=PAGE)
        assert (page.status_code, "does not exist" in page.text) == (404, True)
        assert page.headers["content-type"].startswith("text/html")
        assert (await client.get(path)).headers["content-type"] == "application/problem+json"
    assert (await client.get("/dead-letters/report", headers=PAGE)).status_code == 422


async def test_a_broker_that_takes_too_long_is_503_in_words(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "_SECONDS", 0)
    for path in ("/dead-letters", _LIST):
        page = await client.get(path, headers=PAGE)
        assert (page.status_code, page.headers["retry-after"]) == (503, "1")
        assert "The broker takes too long" in page.text


async def test_the_letters_are_seen_while_postgresql_is_busy(
    container: Container, queues: QueueClient
) -> None:
    """All places are taken: whoever needs PostgreSQL waits. Who needs RabbitMQ alone does not."""
    places = web.new_places()
    app = web.create_app(container, places)
    async with lifespan(app):
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            taken = [await places.take() for _ in iter(lambda: places.has_room, False)]
            letter = await _letter(client, queues)
            for path in ("/dead-letters", _LIST, letter, f"{letter}/confirm-drop"):
                assert (await client.get(path)).status_code == 200, path
            assert (await client.post(f"{letter}/confirm-drop")).status_code == 303
            assert (await client.post(f"{letter}/retry")).status_code == 503
            for place in taken:
                assert place
                place.release()


def test_only_a_retry_of_the_api_needs_a_place() -> None:
    """It keeps its Idempotency-Key in PostgreSQL."""
    letter = f"{_LIST}/{'0' * 32}"
    assert needs_place(f"{letter}/retry") and needs_place(f"{letter}/retry/")
    assert not any(map(needs_place, ("/dead-letters", _LIST, letter, f"{letter}/confirm-retry")))


async def test_those_who_look_at_one_queue_take_turns(
    container: Container, client: httpx.AsyncClient, queues: QueueClient
) -> None:
    """Four of them: a broker that is slow gathers no crowd."""
    await _letter(client, queues)
    turn = container.dead_letters._turns[Queue.PRODUCT]  # pylint: disable=protected-access
    async with turn:
        waiting = [asyncio.create_task(client.get(_LIST)) for _ in range(5)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status_code for task in done] == [503]
        assert (await client.get("/dead-letters/order")).status_code == 200
    answers = await asyncio.gather(*waiting)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 503]
    assert {answer.json()["total"] for answer in answers if answer.status_code == 200} == {1}
