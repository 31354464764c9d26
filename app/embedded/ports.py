import random
import socket

from app.embedded.errors import EmbeddedServerError

LOOPBACK = "127.0.0.1"

# Below the range from which the kernel takes the client's end of connections (32768 on Linux).
# Inside it, a client that keeps trying a stopped server is at times connected to itself, and then
# holds the server's port.
_RANGE = range(21000, 25000)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    for port in random.sample(_RANGE, len(_RANGE)):
        if is_free(port):
            return port
    raise EmbeddedServerError(f"no free port between {_RANGE.start} and {_RANGE.stop}")
