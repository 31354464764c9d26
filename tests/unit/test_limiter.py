"""The limit adapts to what the machine can do, and the queue before it is short."""

import asyncio
from itertools import repeat
from typing import Any

import pytest

from app.rest.asgi import places as module
from app.rest.asgi.limiter import Limiter
from app.rest.asgi.places import Place, Places, VegasLimit

MOST = 20
ALONE = 0.001


def _settled(limit: VegasLimit, seconds: Any) -> int:
    """The limit after many requests, each of which takes `seconds(limit)`."""
    for _ in repeat(None, 5000):
        limit.sample(seconds(limit.value))
    return limit.value


def test_requests_that_do_not_wait_for_each_other_get_all_places() -> None:
    assert _settled(VegasLimit(MOST), lambda _: ALONE) == MOST


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_a_full_machine_gets_few_more_requests_than_it_does_at_once(at_once: int) -> None:
    settled = _settled(VegasLimit(MOST), lambda n: ALONE * max(1, n / at_once))
    assert max(VegasLimit.LEAST, at_once + 2) <= settled <= max(VegasLimit.LEAST, at_once) + 7


def test_a_database_that_becomes_slower_for_all_is_measured_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = VegasLimit(MOST)
    _settled(limit, lambda _: ALONE)
    assert _settled(limit, lambda _: 50 * ALONE) < MOST
    monkeypatch.setattr(limit, "_probe_at", 0.0)  # as when half a minute has passed
    assert _settled(limit, lambda _: 50 * ALONE) == MOST


async def _taken(places: Places, most: int) -> list[Place]:
    taken = [await places.take() for _ in range(most)]
    assert all(taken)
    return [place for place in taken if place]


async def test_requests_have_half_of_the_places_while_others_work() -> None:
    others_work = True
    places = Places(VegasLimit(4), lambda: others_work)
    first, _ = await _taken(places, 2)
    assert not places.has_room
    waiting = [asyncio.create_task(places.take()) for _ in range(4)]
    await asyncio.sleep(0)
    first.release()
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, False, False, False]
    others_work = False
    second = await waiting[0]
    assert second
    second.release()  # and lets in all that now have a place
    assert all(await asyncio.gather(*waiting[1:]))
    assert not places.has_room


async def test_the_oldest_request_that_waits_is_the_next() -> None:
    places = Places(VegasLimit(2))
    first, _ = await _taken(places, 2)
    waiting = [asyncio.create_task(places.take()) for _ in range(3)]
    await asyncio.sleep(0)
    first.release()
    first.release()  # once is enough
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert done == {waiting[0]}
    for task in waiting:
        task.cancel()


async def test_who_waits_too_long_is_refused_and_then_the_newest_is_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SHORT_QUEUE", 0)
    monkeypatch.setattr(module, "PATIENCE_IN_A_CROWD_SECONDS", 0.0)
    places = Places(VegasLimit(1))
    (place,) = await _taken(places, 1)
    waiting = [asyncio.create_task(places.take()) for _ in range(20)]
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert {task.result() for task in done} == {None} and pending
    monkeypatch.setattr(module, "PATIENCE_IN_A_CROWD_SECONDS", 60.0)
    newer = [asyncio.create_task(places.take()) for _ in range(2)]
    await asyncio.sleep(0)
    place.release()
    assert await newer[1]
    await asyncio.wait(waiting)
    assert {task.result() for task in waiting} == {None} and not newer[0].done()
    newer[0].cancel()


async def test_a_short_queue_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORT_QUEUE", 3)
    monkeypatch.setattr(module, "PATIENCE_IN_A_CROWD_SECONDS", 0.0)
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 60.0)
    places = Places(VegasLimit(1))
    (place,) = await _taken(places, 1)
    monkeypatch.setattr(module, "_TICK_SECONDS", 0.0)
    waiting = [asyncio.create_task(places.take()) for _ in range(3)]
    for _ in range(100):
        await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    place.release()
    assert await waiting[0]
    for task in waiting[1:]:
        task.cancel()


async def test_a_request_that_is_cancelled_keeps_no_place() -> None:
    places = Places(VegasLimit(1))
    (place,) = await _taken(places, 1)
    gone, given = (asyncio.create_task(places.take()) for _ in range(2))
    await asyncio.sleep(0)
    place.release()  # its place is `gone`'s, who does not know it yet
    gone.cancel()
    assert await given


async def test_a_body_that_comes_slowly_holds_no_place() -> None:
    parts: asyncio.Queue[Any] = asyncio.Queue()
    served: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served.append((scope["path"], [await receive() for _ in range(scope["parts"])]))
        await send({"type": "http.response.start", "status": 201, "headers": []})

    async def complete() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        pass

    def scope(path: str, parts: int) -> Any:
        state = {"request_id": "1"}
        common = {"type": "http", "method": "POST", "headers": [], "state": state}
        return {**common, "path": path, "parts": parts}

    limited = Limiter(app, Places(VegasLimit(1)))
    slow = asyncio.create_task(limited(scope("/slow", 2), parts.get, send))
    begin, end = ({"type": "http.request", "body": b"x", "more_body": m} for m in (True, False))
    parts.put_nowait(begin)
    await asyncio.sleep(0)
    await limited(scope("/fast", 1), complete, send)
    assert [path for path, _ in served] == ["/fast"]
    parts.put_nowait(end)
    await slow
    assert served[1] == ("/slow", [begin, end])
