"""How many bytes processes have exchanged with their servers, by the kernel's counts."""

import re
import subprocess
from collections.abc import Collection

_COUNTS = re.compile(r"bytes_(?:sent|received):(\d+)")


def bytes_exchanged(pids: Collection[int], port: int) -> int:
    """Both ways, over the open TCP connections of these processes to this port."""
    told = subprocess.run(
        ["ss", "-tinpHO", "dport", "=", f":{port}"], capture_output=True, text=True, check=True
    )
    ours = [f"pid={pid}," for pid in pids]
    lines = [line for line in told.stdout.splitlines() if any(pid in line for pid in ours)]
    return sum(int(count) for line in lines for count in _COUNTS.findall(line))
