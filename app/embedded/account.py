"""Whom the servers run as. PostgreSQL refuses to run as root."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

from app.embedded.errors import EmbeddedServerError

if sys.platform != "win32":
    import pwd

_NOBODY = 65534  # where the system's list of users is missing


class Account(NamedTuple):
    user: int
    group: int


def account_for(directory: Path) -> Account | None:
    """None: the account of this process. Root gives way to the owner of the data, or to nobody."""
    if os.geteuid() != 0:
        return None
    if directory.exists() and (info := directory.stat()).st_uid != 0:
        return Account(info.st_uid, info.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")  # pylint: disable=possibly-used-before-assignment
    except KeyError:
        return Account(_NOBODY, _NOBODY)
    return Account(nobody.pw_uid, nobody.pw_gid)


def make_private(directory: Path, account: Account | None) -> None:
    """Create it. With an account, give it all that is in it: a copy made as root is root's."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if account is None:
        return
    try:
        for parent, _, files in os.walk(directory):
            for path in (parent, *(os.path.join(parent, name) for name in files)):
                os.chown(path, *account, follow_symlinks=False)
    except OSError as error:
        raise EmbeddedServerError(
            f"PostgreSQL refuses to run as root, and root may not give {directory} to another user "
            f"here ({error.strerror}): start as an ordinary user"
        ) from error
