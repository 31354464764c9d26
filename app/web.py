"""Process 1: the HTTP API."""

import asyncio
import inspect
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from litestar import Litestar
from litestar.datastructures import State
from litestar.plugins.pydantic import PydanticPlugin
from litestar.types import ASGIApp, ControllerRouterHandler

from app.consumers.handlers import HANDLERS
from app.container import POOL_SIZE, Container
from app.controllers.addresses import AddressController
from app.controllers.dead_letters import DeadLetterController, DeadLetterPageController
from app.controllers.health import HealthController
from app.controllers.messages import MessageController
from app.controllers.orders import OrderController
from app.controllers.overview import OverviewController
from app.controllers.products import ProductController
from app.controllers.reports import ReportController
from app.controllers.sessions import SessionController
from app.controllers.users import UserController
from app.logs import RequestLog, Thinned
from app.rest.asgi.acceptor import Acceptor
from app.rest.asgi.context import RequestContext
from app.rest.asgi.direct_protocol import DirectProtocol, WaitingRoom
from app.rest.asgi.fast_path import FastPath
from app.rest.asgi.gatekeeper import Gatekeeper
from app.rest.asgi.limiter import MOST_BODY_BYTES, Limiter
from app.rest.asgi.places import Places, VegasLimit
from app.rest.asgi.protocol import close_overdue
from app.rest.asgi.rate_limit import RateLimit
from app.rest.asgi.root_path import RootPath
from app.rest.asyncapi.document import Consumed
from app.rest.asyncapi.page import queues_assets, queues_document, queues_page
from app.rest.dependencies import DEPENDENCIES
from app.rest.errors import EXCEPTION_HANDLERS
from app.rest.openapi.config import openapi_config
from app.rest.openapi.swagger import assets, swagger_ui
from app.rest.requests import JsonRequest, before_request
from app.runtime.garbage import tune_gc
from app.runtime.loops import running
from app.settings import Settings

CONTROLLERS = [
    UserController,
    AddressController,
    ProductController,
    OrderController,
    ReportController,
    DeadLetterController,
    MessageController,
    HealthController,
    OverviewController,
]
_CONSUMED = {
    queue: Consumed(handler.schema, inspect.getdoc(handler.effect) or "")
    for queue, handler in HANDLERS.items()
}
_PAGES: list[ControllerRouterHandler] = [
    SessionController,
    DeadLetterPageController,
    swagger_ui,
    assets,
    queues_page,
    queues_assets,
    queues_document(_CONSUMED),
]
_SHUTDOWN_SECONDS = 8
# From the end of listening to the closing of idle connections: who has connected just before is
# about to send a request.
_LAST_REQUESTS_SECONDS = 0.2
# Of the pool, for what takes no place: loading what is not cached and, in the one-process mode, the
# consumers.
_FREE_CONNECTIONS = 2


def new_places(is_shared: Callable[[], bool] = lambda: False) -> Places:
    return Places(VegasLimit(POOL_SIZE - _FREE_CONNECTIONS), is_shared)


def create_app(
    container: Container, places: Places, rate_limit: RateLimit | None = None
) -> ASGIApp:
    """Every request passes RequestContext, Gatekeeper, Limiter and Litestar, in this order."""
    limiter = Limiter(_litestar(container), places)
    app = RequestContext(Gatekeeper(limiter, container.settings, rate_limit), container.settings)
    root_path = container.settings.root_path
    return RootPath(app, root_path) if root_path else app


def _litestar(container: Container) -> Litestar:
    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with running(*container.reading_loops):
            yield

    return Litestar(
        route_handlers=[*CONTROLLERS, *_PAGES],
        dependencies=DEPENDENCIES,
        request_class=JsonRequest,
        # By default Litestar makes the strict fields of the schemas lax.
        plugins=[PydanticPlugin(validate_strict=None)],  # type: ignore[arg-type]
        before_request=before_request,
        exception_handlers=EXCEPTION_HANDLERS,
        state=State({"container": container}),
        lifespan=[lifespan],
        openapi_config=openapi_config(CONTROLLERS),
        logging_config=None,  # logs.py configures the logs
        request_max_body_size=MOST_BODY_BYTES,
    )


def listen(settings: Settings) -> socket.socket:
    """The bound socket. Raises SystemExit with one line that says what to do."""
    if settings.env == "production" and settings.is_exposed and settings.api_key is None:
        raise SystemExit(f"HOST={settings.host} with ENV=production needs API_KEY: set one")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        raise SystemExit(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): "
            "stop what uses it, or set HOST and PORT"
        ) from None
    return listening


async def serve(
    container: Container,
    listening: socket.socket,
    on_started: Callable[[], None] = lambda: None,
    is_shared: Callable[[], bool] = lambda: False,
) -> None:
    """Returns after SIGTERM or SIGINT, when the requests in flight are done or 8 s have passed.

    `is_shared` says whether this process does other work at the moment: see places.py."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it has stopped. With the default handler, the process
        # would not exit with 0.
        signal.signal(number, lambda *_: None)
    RequestLog.ordinary = Thinned(container.settings.log_ordinary_requests)
    places = new_places(is_shared)
    rate_limit = RateLimit.of(container.settings)
    room = WaitingRoom(places, container.settings, rate_limit)
    config = uvicorn.Config(
        create_app(container, places, rate_limit),
        loop="uvloop",
        http=partial(DirectProtocol, FastPath(container, rate_limit), room),  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        proxy_headers=False,  # see client_address.py
        server_header=False,
        timeout_keep_alive=container.settings.keep_alive_seconds,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    tune_gc()
    await _Server(config, container, on_started).serve(sockets=[listening])


class _Server(uvicorn.Server):
    """Reports "not ready" for SHUTDOWN_DELAY seconds before it stops, so that load balancers send
    their requests elsewhere."""

    def __init__(
        self, config: uvicorn.Config, container: Container, on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._container = container
        self._on_started = on_started
        self._loop = asyncio.get_running_loop()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        http: Any = self.config.http_protocol_class
        state = self.lifespan.state
        protocol = partial(http, self.config, self.server_state, state, _loop=self._loop)
        acceptors: Any = [Acceptor(listening, protocol) for listening in sockets or ()]
        self.servers.extend(acceptors)
        if self.started:
            self._on_started()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            close_overdue(self.server_state.connections, self._loop.time())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self.servers.clear()
        await asyncio.sleep(_LAST_REQUESTS_SECONDS)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        delay = self._container.settings.shutdown_delay
        stop = partial(super().handle_exit, sig, frame)
        if delay == 0 or self._container.health.closing:  # a second signal stops at once
            stop()
        else:
            self._container.health.closing = True
            self._loop.call_soon_threadsafe(self._leave, delay, stop)

    def _leave(self, delay: float, stop: Callable[[], None]) -> None:
        """From now on each response ends its connection. Otherwise a proxy would find out by a
        request that fails, and what is no GET it may not repeat."""
        ending = (b"connection", b"close")
        self.server_state.default_headers.append(ending)
        self.config.encoded_headers.append(ending)  # the former are made of these every second
        self._loop.call_later(delay, stop)
