"""docs/settings.md names each variable that is read, as the code has it."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from app.settings import ROOT, Settings
from harness.settings_table import table

PAGE = ROOT / "docs" / "settings.md"
_BEGIN, _END = "<!-- From app/settings.py", "<!-- end -->\n"
_COMPOSE = [ROOT / "docker-compose.yml", *(ROOT / "deploy").glob("*.yml")]
_PYTHON = [*ROOT.glob("*.py"), *ROOT.glob("app/**/*.py"), *ROOT.glob("migrations/**/*.py")]


def test_the_table_is_that_of_the_code() -> None:
    head, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
    how, _, rest = rest.partition("\n")
    found, _, tail = rest.partition(_END)
    now = "".join(f"{row}\n" for row in table())
    if not found:
        PAGE.write_text(f"{head}{_BEGIN}{how}\n{now}{_END}{tail}", "utf-8")
        pytest.fail("the table was missing and has been written: read its diff")
    assert found == now, how


def test_each_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def names(pattern: str, paths: Iterable[Path]) -> set[str]:
    return {name for path in paths for name in re.findall(pattern, path.read_text("utf-8"), re.M)}


def test_each_variable_that_is_read_is_named() -> None:
    asking = [path for path in _PYTHON if "os.environ" in path.read_text("utf-8")]
    read = {
        "compose": names(r"\$\{(\w+)", _COMPOSE),
        "entrypoint": names(r"\$\{(\w+)", [ROOT / "entrypoint.sh"]),
        "example": names(r"^(?:# )?([A-Z_]+)=", [ROOT / ".env.example"]),
        "Python": names(r'"([A-Z]+_[A-Z_]+)"(?!:)', asking),
    }
    assert all(read.values()), read
    named = set(re.findall(r"`([A-Z_]+)`", PAGE.read_text("utf-8")))
    assert set().union(*read.values()) - named == set()
