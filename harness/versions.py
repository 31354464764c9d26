"""The tests with other dependencies than those of uv.lock: the lowest that pyproject.toml allows,
then the newest there are.

    python -m harness.versions [lowest | newest] [arguments of pytest]

Without arguments of pytest: the tests of a few minutes. `tests` is all of them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from app.settings import ROOT
from harness.northwind import NORTHWIND

_OPTIONS = {
    "lowest": ["--resolution", "lowest-direct"],
    # Among all that is published, and not among what was when pyproject.toml fixed the date.
    "newest": ["--upgrade", "--exclude-newer", "9999-01-01"],
}
_QUICK = [
    "tests/unit",
    "tests/integration",
    "tests/e2e/test_processes.py",
    "-m",
    "not fault and not long",
]


def check(kind: str, tests: list[str]) -> int:
    """In a copy of the project with an environment of its own; the exit code of pytest."""
    print(f"with the {kind} dependencies", flush=True)
    with tempfile.TemporaryDirectory(prefix="order-service-") as directory:
        copy = Path(directory) / "project"
        ours = shutil.ignore_patterns(".git", ".venv", ".data", "uv.lock", ".*_cache", ".env")
        shutil.copytree(ROOT, copy, ignore=ours)
        left_out = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONDONTWRITEBYTECODE")
        variables = {name: value for name, value in os.environ.items() if name not in left_out}
        variables |= {"NORTHWIND": str(NORTHWIND), "UV_COMPILE_BYTECODE": "1"}
        subprocess.run(["uv", "sync", *_OPTIONS[kind]], cwd=copy, env=variables, check=True)
        pytest = ["uv", "run", "--no-sync", "pytest", "-q", "-n", "2", "--dist", "loadfile"]
        return subprocess.run([*pytest, *tests], cwd=copy, env=variables, check=False).returncode


def main() -> None:
    words = sys.argv[1:]
    kinds = [words.pop(0)] if words and words[0] in _OPTIONS else [*_OPTIONS]
    ended = {kind: check(kind, words or _QUICK) for kind in kinds}
    failed = [kind for kind, code in ended.items() if code]
    raise SystemExit(f"failed with the {' and the '.join(failed)} dependencies" if failed else 0)


if __name__ == "__main__":
    main()
