"""The protocol with what it does without the application: it reads one user or product, and lets
requests wait for their places."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, cast

import zttp

from app.rest.asgi.client_address import Connection
from app.rest.asgi.context import BEGAN, PLACE, UNMATCHED, CommonHeaders
from app.rest.asgi.direct import Answer, DirectRequest, headers_in
from app.rest.asgi.fast_path import FastPath, FastRead
from app.rest.asgi.gatekeeper import Access
from app.rest.asgi.limiter import needs_place, refusal
from app.rest.asgi.places import Place, Places
from app.rest.asgi.protocol import OVERLOADED, WHOLE, CorkedTransport, Protocol
from app.rest.asgi.rate_limit import RATE, RateLimit
from app.settings import Settings


class HeldRequest(DirectRequest):
    """A whole request that waits for its turn. There are thousands of them: each is one object with
    little else, and waits without a Future."""

    def __init__(
        self,
        request: zttp.Request,
        headers: dict[bytes, bytes],
        body: bytes,
        common: CommonHeaders,
        decided: "Decided",
    ) -> None:
        super().__init__(request, headers, UNMATCHED, common)
        self.body = body
        self._decided = decided

    def done(self) -> bool:
        return self.disconnected

    def set_result(self, place: Place | None) -> None:
        asyncio.get_running_loop().call_soon(self._tell, place, context=Context())

    def _tell(self, place: Place | None) -> None:
        if not self.disconnected:
            self._decided(self, place)
        elif place:
            place.release()


Decided = Callable[[HeldRequest, Place | None], None]


class WaitingRoom:
    """Which requests wait in the protocol: those that need a place when none is free, and would not
    be turned away at once."""

    def __init__(
        self, places: Places, settings: Settings, rate_limit: RateLimit | None = None
    ) -> None:
        self._places = places
        self._access = Access(settings, rate_limit)
        self._common = CommonHeaders(settings)
        self._root_path = settings.root_path

    @property
    def is_open(self) -> bool:
        return not self._places.has_room

    def hold(
        self, request: zttp.Request, body: bytes, client: Connection, decided: Decided
    ) -> HeldRequest | None:
        headers = dict(headers_in(request))
        if not self._admits(request, headers):
            return None
        wait, rate = self._access.allowance(client, headers)
        if wait:
            return None
        held = HeldRequest(request, headers, body, self._common, decided)
        held.rate = rate
        self._places.queue(held)
        return held

    def _admits(self, request: zttp.Request, headers: dict[bytes, bytes]) -> bool:
        method = request.method.decode()
        path = request.path.decode("latin-1").removeprefix(self._root_path)
        return (
            path.isascii()  # the others are rejected
            and "%" not in path  # it may be another path than it seems
            and needs_place(method, path)
            and method != "HEAD"
            and self._access.rejection(method, path, headers) is None
        )


class DirectProtocol(Protocol):
    def __init__(self, fast_path: FastPath, room: WaitingRoom, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fast_path = fast_path
        self._room = room

    def handle_events(self, event: zttp.Event) -> None:
        if isinstance(event, zttp.Request) and not self._is_special():
            if read := self._fast_path.begin(event, self.client):
                self._read(read)
                return
            if self._room.is_open and not event.expect_continue:
                self._hold(event)
                return
        super().handle_events(event)

    def _is_special(self) -> bool:
        # Only the application waits for a client that does not read.
        return self.flow.write_paused or OVERLOADED in self.app_state

    def _read(self, read: FastRead) -> None:
        self._unset_keepalive_if_required()
        self.cycle = read  # type: ignore[assignment]
        if read.peeked is None:
            self._load(read)
        else:
            read.peeked.add_done_callback(lambda _: self._peeked(read))

    def _peeked(self, read: FastRead) -> None:
        if answer := read.hit():
            self._respond(read, answer)
        elif not read.disconnected:
            self._load(read)

    def _load(self, read: FastRead) -> None:
        if (loading := read.load()) is None:
            self._resolve(read)
        else:
            loading.add_done_callback(lambda _: self._loaded(read))

    def _loaded(self, read: FastRead) -> None:
        if answer := read.loaded():
            self._respond(read, answer)
        elif not read.disconnected:
            self._resolve(read)

    def _resolve(self, read: FastRead) -> None:
        async def resolve() -> None:
            self._respond(read, await read.resolved())

        task = self.loop.create_task(resolve(), context=Context())
        self.tasks.add(task)  # a server that stops waits for it
        task.add_done_callback(self.tasks.discard)

    def _hold(self, request: zttp.Request) -> None:
        body, is_whole = self._received()
        held = self._room.hold(request, body, self.client, self._decided) if is_whole else None
        if held is None:
            self._pass_on(request, body, is_whole)
            return
        self._unset_keepalive_if_required()
        self.cycle = held  # type: ignore[assignment]

    def _received(self) -> tuple[bytes, bool]:
        """What has come of the body, and whether it is all."""
        body = bytearray()
        while (event := self.conn.next_event()) is not zttp.NEED_DATA:
            if isinstance(event, zttp.EndOfMessage):
                return bytes(body), True
            if isinstance(event, zttp.Data):
                body += event.data
        return bytes(body), False

    def _pass_on(self, request: zttp.Request, body: bytes, is_whole: bool) -> None:
        super().handle_events(request)
        self.cycle.body += body
        if is_whole:
            self.cycle.more_body = False
            self.scope["state"][WHOLE] = True
        if body or is_whole:
            self.cycle.message_event.set()

    def _decided(self, held: HeldRequest, place: Place | None) -> None:
        if place is None:
            headers, body = refusal(held.request_id)
            self._respond(held, Answer(503, headers, body), is_dull=True)
            return
        self._pass_on(held.request, held.body, is_whole=True)
        self.cycle.keep_alive = held.keep_alive  # false if the server has begun to stop
        self.scope["state"] |= {PLACE: place, BEGAN: held.began, "request_id": held.request_id}
        if held.rate:
            self.scope["state"][RATE] = held.rate

    def _respond(self, request: DirectRequest, answer: Answer, is_dull: bool = False) -> None:
        if request.disconnected:
            return
        headers = self.server_state.default_headers + answer.headers + request.headers()
        self.conn.send_response(answer.status, headers)
        if answer.body:
            self.conn.send_data(answer.body)
        self.conn.end_message()
        cast(CorkedTransport, self.transport).write_whole(self.conn.data_to_send())
        request.response_complete = True
        request.record(answer.status, is_dull)
        if self.conn.should_close() or not request.keep_alive:
            self.transport.close()
        self.on_response_complete()
