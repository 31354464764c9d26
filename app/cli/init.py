"""`init`: the first settings."""

import os
import secrets

from app.settings import ROOT

_PATH = ROOT / ".env"
_TEXT = """\
# For `docker compose up --build`. README.md lists what else can be set.
DB_HOST=db
RABBITMQ_HOST=rabbitmq
REDIS_HOST=redis
POSTGRES_PASSWORD={}
RABBITMQ_PASSWORD={}
PGADMIN_DEFAULT_PASSWORD={}
# With this line, every request needs the key: curl -H "X-API-Key: ..."
# API_KEY={}
"""


def run() -> None:
    """Raises SystemExit with one line."""
    passwords = (secrets.token_urlsafe(24) for _ in range(_TEXT.count("{}")))
    try:
        descriptor = os.open(_PATH, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise SystemExit(f"{_PATH} is there and stays as it is: move it away first") from None
    except OSError as error:
        raise SystemExit(f"cannot write {_PATH} ({error.strerror})") from None
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(_TEXT.format(*passwords))
    print(
        f"{_PATH} is written. Start with `docker compose up --build`.\n"
        "Servers that have run before keep their old passwords: see docs/running.md#new-passwords."
    )
