"""What docs/architecture.md promises about the source, checked in the source."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.orm import configure_mappers

from app.models.base import Base
from app.settings import ROOT

SOURCES = sorted((ROOT / "app").rglob("*.py"))


def functions() -> Iterator[tuple[str, int]]:
    """Each function and its number of lines, signature included."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno
                yield f"{path.name}:{node.name}", node.end_lineno - node.lineno + 1


def test_imports_point_down() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_only_the_unit_of_work_commits() -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for _ in re.finditer(r"\.commit\(", path.read_text(encoding="utf-8"))
    ]
    assert found == ["app/unit_of_work.py"]


def test_no_model_has_a_relationship() -> None:
    """A statement reads what it names; a relationship could load more behind the reader's back."""
    configure_mappers()
    assert not [
        relationship for mapper in Base.registry.mappers for relationship in mapper.relationships
    ]


def test_functions_are_short() -> None:
    lengths = dict(functions())
    ordered = sorted(lengths.values())
    assert statistics.median(ordered) <= 8
    assert ordered[int(len(ordered) * 0.9)] <= 24, [
        n for n, length in lengths.items() if length > 24
    ]


def test_no_module_is_named_for_odds_and_ends() -> None:
    for name in ("utils", "helpers", "common", "core", "lib"):
        assert not list((ROOT / "app").rglob(f"{name}*")), name
