"""The SQL of the migrations keeps to docs/upgrades.md, as far as squawk can tell."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT

# The last migration from before the rules.
BASE = "c5d2e8f7a140"


def squawk(sql: str) -> str:
    """What it finds, with the names of the rules."""
    done = subprocess.run(
        [Path(sys.executable).with_name("squawk"), "--reporter=gcc"],
        cwd=ROOT,
        input=sql,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == bool(done.stdout), done.stderr
    return done.stdout


def test_squawk_finds_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", f"{BASE}:head", "--sql"],
        cwd=ROOT / "app",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "CREATE INDEX CONCURRENTLY" in done.stdout
    assert squawk(done.stdout) == ""


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("CREATE INDEX i ON users (email)", "require-concurrent-index-creation"),
        ("BEGIN; CREATE INDEX CONCURRENTLY i ON users (email); COMMIT", "ban-concurrent-index"),
        ("ALTER TABLE users ADD COLUMN phone text NOT NULL", "adding-required-field"),
        ("ALTER TABLE users DROP COLUMN email", "ban-drop-column"),
        ("ALTER TABLE users RENAME COLUMN email TO mail", "renaming-column"),
        ("ALTER TABLE reports ALTER COLUMN id TYPE text", "changing-column-type"),
        ("ALTER TABLE orders ADD CONSTRAINT c CHECK (id > 0)", "constraint-missing-not-valid"),
    ],
)
def test_what_stops_the_service_is_found(statement: str, rule: str) -> None:
    assert rule in squawk(f"{statement};")
