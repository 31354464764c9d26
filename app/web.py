"""Process 1: the HTTP API."""

import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import uvicorn
from litestar import Litestar
from litestar.types import ASGIApp

from app.container import Container
from app.controllers.addresses import AddressController
from app.controllers.dependencies import DEPENDENCIES
from app.controllers.docs import OPENAPI, assets, swagger_ui
from app.controllers.errors import EXCEPTION_HANDLERS
from app.controllers.health import HealthController
from app.controllers.messages import MessageController
from app.controllers.middleware import RequestContext
from app.controllers.orders import OrderController
from app.controllers.products import ProductController
from app.controllers.reports import ReportController
from app.controllers.users import UserController
from app.infra.loops import running
from app.settings import Settings

_SHUTDOWN_SECONDS = 8
MOST_BODY_BYTES = 256 * 1024


def create_app(opening: AbstractAsyncContextManager[Container]) -> ASGIApp:
    """The container is opened and closed with the server."""

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with opening as container, running(*container.loops_of_reader):
            app.state.container = container
            yield

    return RequestContext(
        Litestar(
            route_handlers=[
                UserController,
                AddressController,
                ProductController,
                OrderController,
                ReportController,
                MessageController,
                HealthController,
                swagger_ui,
                assets,
            ],
            dependencies=DEPENDENCIES,
            exception_handlers=EXCEPTION_HANDLERS,
            lifespan=[lifespan],
            openapi_config=OPENAPI,
            logging_config=None,  # ours stands: see logs.py
            request_max_body_size=MOST_BODY_BYTES,
        )
    )


def listen(settings: Settings) -> socket.socket:
    """The listening socket, or SystemExit with one line that says what to do."""
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


async def serve(app: ASGIApp, listening: socket.socket) -> None:
    """Until SIGTERM or SIGINT; then requests in flight are answered first."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again when it is done: with the default handler we would
        # not exit with 0.
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    await uvicorn.Server(config).serve(sockets=[listening])
