import random
import socket

from app.embedded.errors import EmbeddedServerError

LOOPBACK = "127.0.0.1"

# Below the range from which the kernel picks a client's own port (from 32768 on Linux). Within that
# range, a client that keeps retrying a stopped server can get the server's port as its own: it then
# connects to itself and blocks the port. Many, since two processes that look at the same moment may
# find the same one; without those from 25000 on, which other programs are known by.
_PORTS: tuple[int, ...] = (*range(21000, 25000), *range(28000, 32700))


def is_free(port: int, *, is_new: bool = False) -> bool:
    """Whether a server can listen on it. If it has had the port before, some of its connections may
    still be ending there. One that `is_new` to it must not even be bound: the API's is, and is not
    listened on while the servers start."""
    with socket.socket() as probe:
        if not is_new:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Raises EmbeddedServerError if no port is free."""
    for port in random.sample(_PORTS, len(_PORTS)):
        if is_free(port, is_new=True):
            return port
    raise EmbeddedServerError(f"no free port between {_PORTS[0]} and {_PORTS[-1]}")
