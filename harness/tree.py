"""A copy of the service's files: no developer's `.env` gets in, and no file of a test stays."""

import shutil
from pathlib import Path

from app.settings import ROOT

_PROGRAMS = ("main.py", "producer.py", "test_redis_cache.py")
_FILES = ("app", "migrations", "deploy", "pyproject.toml", *_PROGRAMS)
_LEFT_OUT = ("__pycache__", "*.secret")


def copy_tree(target: Path) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        elif source.exists():
            shutil.copy(source, target / name)
    return target


def edit(tree: Path, file: str, text: str, instead: str) -> None:
    """Exchanges a text that a file of the copy has once."""
    source = (tree / file).read_text("utf-8")
    assert source.count(text) == 1, f"{file} has {text!r} {source.count(text)} times"
    (tree / file).write_text(source.replace(text, instead), "utf-8")
