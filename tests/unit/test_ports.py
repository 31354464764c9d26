"""Ports for the servers that `main.py` starts."""

import socket

import pytest

from app.embedded import ports
from app.embedded.ports import LOOPBACK, free_port, is_free


def test_a_port_that_is_bound_and_not_yet_listened_on_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As that of the API is while the servers start: listening on it would fail then."""
    other = free_port()
    with socket.socket() as api:
        api.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        api.bind((LOOPBACK, 0))
        bound = api.getsockname()[1]
        monkeypatch.setattr(ports, "_PORTS", (bound, other))
        assert {free_port() for _ in range(20)} == {other}


def test_a_server_gets_its_own_port_again_while_its_connections_are_ending() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((LOOPBACK, 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection((LOOPBACK, port)):
            served, _ = server.accept()
            served.close()  # first, so this end waits a minute for late packets
    assert is_free(port) and not is_free(port, is_new=True)
