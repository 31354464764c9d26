"""`state.json` in the data directory: where the one-process service and its servers can be reached.

app/embedded writes it, once when the servers run and again when the API is ready; at the next start
it reads its own ports back, to keep them. app/client reads it, so that producer.py,
test_redis_cache.py and `python -m app dead` find a running service without any configuration.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_NAME = "state.json"


def read(data_dir: Path) -> dict[str, Any]:
    """What was written last, or {} without a readable file. The process with the file's `pid` may
    have ended since."""
    try:
        state = json.loads((data_dir / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write(data_dir: Path, state: Mapping[str, Any]) -> None:
    """Replace the file atomically: a reader never sees half of it. Its mode is 0600, because the
    database's password is in it."""
    path = data_dir / _NAME
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(
        os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(json.dumps(state, indent=2) + "\n")
    new.replace(path)
