"""A copy of the service's files: no developer's `.env` gets in, and no file of a test stays."""

import shutil
from pathlib import Path

from app.settings import ROOT

_FILES = ("app", "migrations", "main.py", "producer.py", "test_redis_cache.py", "pyproject.toml")


def copy_tree(target: Path) -> Path:
    target.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / name)
    return target
