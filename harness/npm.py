"""Programs from npm, in a directory that a test gives them."""

import shutil
import subprocess
from pathlib import Path

import pytest

MISSING = "NOT TESTED, because npm is missing: run `apt-get install -y npm`"


class Npm:
    def __init__(self, directory: Path, *packages: str) -> None:
        if shutil.which("npm") is None:
            pytest.skip(MISSING)
        self.directory = directory
        (directory / "package.json").write_text('{"type": "module"}', encoding="utf-8")
        quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        self.run("npm", "install", *quietly, *packages)

    def run(self, *command: str) -> str:
        """The output of a program, which must exit with 0."""
        run = subprocess.run(
            command, cwd=self.directory, capture_output=True, check=False, text=True, timeout=180
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    def tool(self, name: str, *arguments: str) -> str:
        """The output of a program that a package has installed."""
        return self.run(f"node_modules/.bin/{name}", *arguments)
