"""The user that the servers run as. PostgreSQL refuses to run as root."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

from app.embedded.errors import EmbeddedServerError

if sys.platform != "win32":
    import pwd

_NOBODY = 65534  # for systems without a user database


class Account(NamedTuple):
    user: int
    group: int


def account_for(directory: Path) -> Account | None:
    """None stands for the account of this process. As root, the servers run as the owner of
    `directory`, or as the user `nobody` if root owns it or it does not exist yet."""
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
    """Create the directory with mode 0700. An account becomes the owner of everything in it: the
    files of a copy that root made belong to root. Raises EmbeddedServerError if root may not."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if account is None:
        return
    try:
        for parent, _, files in os.walk(directory):
            for path in (parent, *(os.path.join(parent, name) for name in files)):
                os.chown(path, *account, follow_symlinks=False)
    except OSError as error:
        raise EmbeddedServerError(
            "PostgreSQL refuses to run as root, and here root may not change the owner of "
            f"{directory} ({error.strerror}): start as an ordinary user"
        ) from error
