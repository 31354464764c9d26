from collections.abc import Callable
from pathlib import Path

import pytest

from app.settings import Settings, load_settings


@pytest.fixture
def complaint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, str], str]:
    """What a program ends with at its start, if this variable alone is set to this value."""

    def ended_with(name: str, value: str) -> str:
        monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / "none")
        monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            load_settings()
        return str(ended.value)

    return ended_with
