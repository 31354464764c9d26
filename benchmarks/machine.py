"""The machine and the versions that the figures were measured with."""

import asyncio
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import psutil

_PACKAGES = ("litestar", "uvicorn", "uvloop", "sqlalchemy", "asyncpg", "redis", "faststream")
_PEERS = ("fastapi", "starlette")


async def describe() -> list[str]:
    memory = psutil.virtual_memory().total / (1 << 30)
    packages = ", ".join(f"{name} {version(name)}" for name in (*_PACKAGES, *_PEERS))
    return [
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}",
        f"Python {platform.python_version()}, {packages}",
        f"Node {await _output('node', '--version')}",
    ]


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.M)
    return found[1] if found else platform.machine()


async def _output(*command: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    except OSError:
        return "not installed"
    output, _ = await process.communicate()
    return output.decode().strip()
