"""The walks of docs/architecture.md: which files a request really passes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import httpx
import pytest

from app.container import Container
from app.settings import ROOT
from harness.served import as_served
from harness.shop import Shop

# What every request uses, and no walk names: coalescing, schemas, entity tags, logs and counters; and
# what opens a connection, in whichever request needs one more.
_PLUMBING = (
    "rest/etags.py",
    "runtime/",
    "schemas/",
    "logs.py",
    "metrics.py",
    "output.py",
    "errors.py",
    "settings.py",
    "database_connections.py",
    "redis_connections.py",
    "server_addresses.py",
)

_ATTEMPTS = 20


@contextmanager
def passed_files() -> Iterator[list[str]]:
    """The files below app/ in which a function is called, in the order of the first calls."""
    files: list[str] = []
    app = f"{ROOT}/app/"

    def note(frame: FrameType, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(app):
            name = file.removeprefix(app)
            if name not in files and not name.startswith(_PLUMBING):
                files.append(name)

    sys.setprofile(note)
    try:
        yield files
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("kind", ["users", "products"])
async def test_a_cold_read_passes_the_files_of_its_walk(
    kind: str, container: Container, client: httpx.AsyncClient, shop: Shop
) -> None:
    add = {"users": shop.user, "products": shop.product}[kind]
    # This opens the connection to Redis and the trust window, and caches nothing.
    assert (await client.get(f"/{kind}/999")).status_code == 404
    background = {
        "cache/current.py",
        "cache/invalidation.py",
        "repositories/cache_servers.py",
        "repositories/invalidations.py",
    }
    walk = [
        "rest/asgi/protocol.py",
        "rest/asgi/direct_protocol.py",
        "rest/asgi/direct.py",
        "rest/asgi/fast_path.py",
        "rest/asgi/gatekeeper.py",
        "rest/asgi/context.py",
        "cache/reads.py",
        "cache/store.py",
        "cache/guard.py",
        f"services/{kind}.py",
        "database.py",
        "repositories/entities.py",
    ]
    async with as_served(container) as server:
        # On a busy machine Redis may be too late, or the trust window closed: another walk.
        for _ in range(_ATTEMPTS):
            path = f"/{kind}/{await add()}"
            with passed_files() as files:
                head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                assert (await server.answer(head.encode())).startswith(b"HTTP/1.1 200")
            # Sorted: the background may pass the database first.
            passed = sorted(file for file in files if file not in background)
            if passed == sorted(walk):
                return
    assert passed == sorted(walk)
